import { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import {
  type ContentStore,
  MARK,
  MARK_BYTES,
  parseName,
  type StoredFile,
  shardOf,
  Unreadable,
} from './content-store.js';
import type { ByteRange } from './pieces.js';

/** As `s3://bucket/prefix?region=…&endpoint=…` names it. */
export interface S3Place {
  readonly bucket: string;
  /** Empty, or ends with a slash. */
  readonly prefix: string;
  readonly region?: string;
  /** Base URL of another server that speaks S3. */
  readonly endpoint?: string;
}

/** Most objects that one call removes (https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html). */
const REMOVED_AT_ONCE = 1_000;
/** Of what comes as a stream so much at a time; S3's least (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html). */
const PART_BYTES = 5 * 1_024 * 1_024;
const CONNECT_MS = 5_000;
const ANSWER_MS = 60_000;
const TRIES = 3;

/** Contents as objects in Amazon S3 or what speaks its protocol: an object that was acknowledged is durable, and read at once. */
export class S3Contents implements ContentStore {
  readonly place: string;
  readonly #at: S3Place;
  readonly #answerWithinMs: number;
  #client: Promise<S3Client> | undefined;

  /**
   * Credentials are found as the AWS SDK finds them: variables, files, the machine's role.
   *
   * @param answerWithinMs how long one try may wait for an answer to begin, and for more of it. Default 60,000
   */
  constructor(at: S3Place, answerWithinMs = ANSWER_MS) {
    this.#at = at;
    this.#answerWithinMs = answerWithinMs;
    this.place = `s3://${at.bucket}/${at.prefix}`;
  }

  async readMark(): Promise<string | undefined> {
    const { GetObjectCommand } = await import('@aws-sdk/client-s3');
    const asked = { ...this.#object(MARK), Range: `bytes=0-${MARK_BYTES}` };
    const found = await (await this.#connected()).send(new GetObjectCommand(asked)).catch(ifThere);
    return (await found?.Body?.transformToString())?.trim();
  }

  async writeMark(line: string): Promise<void> {
    const { PutObjectCommand } = await import('@aws-sdk/client-s3');
    // A server that does not know the condition lets the last one win: then the others are told when they read it.
    const mark = { ...this.#object(MARK), Body: `${line}\n`, IfNoneMatch: '*' };
    await (await this.#connected())
      .send(new PutObjectCommand(mark))
      .catch((error: { readonly $metadata?: { readonly httpStatusCode?: number } }) => {
        if (error.$metadata?.httpStatusCode !== 412 && error.$metadata?.httpStatusCode !== 409) throw error;
      });
  }

  async put(name: string, bytes: Buffer | AsyncIterable<Buffer>): Promise<void> {
    const client = await this.#connected();
    const object = this.#object(keyOf(name));
    if (bytes instanceof Buffer) {
      const { PutObjectCommand } = await import('@aws-sdk/client-s3');
      await client.send(new PutObjectCommand({ ...object, Body: bytes }));
      return;
    }
    const { Upload } = await import('@aws-sdk/lib-storage');
    const params = { ...object, Body: Readable.from(bytes, { objectMode: false }) };
    await new Upload({ client, params, partSize: PART_BYTES, queueSize: 1 }).done();
  }

  /** S3 knows no such thing: it is copied there, and then removed. */
  async rename(name: string, other: string): Promise<void> {
    const { CopyObjectCommand } = await import('@aws-sdk/client-s3');
    const source = this.#object(keyOf(name));
    const CopySource = `${source.Bucket}/${source.Key.split('/').map(encodeURIComponent).join('/')}`;
    await (await this.#connected()).send(new CopyObjectCommand({ ...this.#object(keyOf(other)), CopySource }));
    await this.remove([name]);
  }

  async size(name: string): Promise<number | undefined> {
    const { HeadObjectCommand } = await import('@aws-sdk/client-s3');
    const client = await this.#connected();
    const found = await client.send(new HeadObjectCommand(this.#object(keyOf(name)))).catch(ifThere);
    return found && (found.ContentLength ?? 0);
  }

  async *read(name: string, size: number, { start, end }: ByteRange): AsyncGenerator<Buffer> {
    const { GetObjectCommand } = await import('@aws-sdk/client-s3');
    const client = await this.#connected();
    const asked = { ...this.#object(keyOf(name)), Range: `bytes=${start}-${end - 1}` };
    const found = await client.send(new GetObjectCommand(asked)).catch(ifThere);
    if (!found) throw new Unreadable('missing');
    if (found.ContentRange !== `bytes ${start}-${end - 1}/${size}`) {
      (found.Body as Readable).destroy();
      throw new Unreadable('damaged');
    }
    yield* found.Body as AsyncIterable<Buffer>;
  }

  async *list(prefix = ''): AsyncGenerator<readonly StoredFile[]> {
    const { paginateListObjectsV2 } = await import('@aws-sdk/client-s3');
    const { bucket, prefix: folder } = this.#at;
    const Prefix = folder + (prefix.length < 2 ? '' : `${shardOf(prefix)}/${prefix}`);
    const pages = paginateListObjectsV2({ client: await this.#connected() }, { Bucket: bucket, Prefix });
    for await (const { Contents = [] } of pages) {
      const page: StoredFile[] = [];
      for (const { Key = '', Size = 0, LastModified } of Contents) {
        const name = Key.slice(folder.length + 3);
        if (LastModified && parseName(name) && keyOf(name) === Key.slice(folder.length))
          page.push({ name, bytes: Size, modifiedAtMs: LastModified.getTime() });
      }
      if (page.length > 0) yield page;
    }
  }

  async remove(names: readonly string[]): Promise<void> {
    const { DeleteObjectsCommand } = await import('@aws-sdk/client-s3');
    const client = await this.#connected();
    for (let at = 0; at < names.length; at += REMOVED_AT_ONCE) {
      const Objects = names.slice(at, at + REMOVED_AT_ONCE).map((name) => ({ Key: this.#at.prefix + keyOf(name) }));
      const { Errors = [] } = await client.send(
        new DeleteObjectsCommand({ Bucket: this.#at.bucket, Delete: { Objects, Quiet: true } }),
      );
      const [first] = Errors;
      if (first) throw new Error(`${Errors.length} contents could not be removed: ${first.Code} ${first.Message}`);
    }
  }

  #object(key: string) {
    return { Bucket: this.#at.bucket, Key: this.#at.prefix + key };
  }

  #connected(): Promise<S3Client> {
    this.#client ??= import('@aws-sdk/client-s3').then(({ S3Client }) => {
      const { region, endpoint } = this.#at;
      return new S3Client({
        ...(region !== undefined && { region }),
        ...(endpoint !== undefined && { endpoint, forcePathStyle: true }),
        maxAttempts: TRIES,
        requestHandler: {
          connectionTimeout: CONNECT_MS,
          requestTimeout: this.#answerWithinMs,
          // Else it is only warned of.
          throwOnRequestTimeout: true,
          socketTimeout: this.#answerWithinMs,
        },
      });
    });
    return this.#client;
  }
}

const keyOf = (name: string): string => `${shardOf(name)}/${name}`;

/** HEAD has no body and so no code. Of an object that is shorter than the beginning of a range S3 says 416. */
const ifThere = (error: Error): undefined => {
  if (error.name === 'InvalidRange') throw new Unreadable('damaged');
  if (error.name !== 'NoSuchKey' && error.name !== 'NotFound') throw error;
};
