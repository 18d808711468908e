import type { PutObjectCommandInput, S3Client } from '@aws-sdk/client-s3';
import type { FileSource } from '../channel.js';
import { digestOf, type FilePart, partsOf } from '../files/file-parts.js';
import { streamOf } from '../files/file-sources.js';

/**
 * Larger files go in parts of it, one after the other, so that none of them is held in memory
 * (https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html). S3's least is 5 MiB, its most 10,000 parts.
 */
const PART_BYTES = 5 * 1_024 * 1_024;

/** Puts a file under a key. What S3 has is what was read: every request is signed with the SHA-256 of its body. */
export async function putObject(client: S3Client, object: PutObjectCommandInput, source: FileSource): Promise<void> {
  // Of a stream the SDK itself would sign nothing.
  const signDigest: Parameters<typeof client.middlewareStack.add>[0] = (next) => (args) => {
    const { headers } = (args as unknown as { readonly request: { readonly headers: Record<string, string> } }).request;
    const checksum = headers['x-amz-checksum-sha256'];
    if (checksum !== undefined) headers['x-amz-content-sha256'] = Buffer.from(checksum, 'base64').toString('hex');
    return next(args);
  };
  client.middlewareStack.add(signDigest, { step: 'build' } as never);
  const upload = new MultipartUpload(client, object);
  try {
    for await (const part of partsOf(source, PART_BYTES)) {
      if (part.index === 0 && part.isLast) {
        const { PutObjectCommand } = await import('@aws-sdk/client-s3');
        await client.send(
          new PutObjectCommand({ ...object, ...(part.held ? { Body: part.held } : await bodyOf(part)) }),
        );
      } else await upload.add(part);
    }
  } catch (error) {
    await upload.abort();
    throw error;
  }
}

/** Begun by its first part, and whole with its last. */
class MultipartUpload {
  readonly #client: S3Client;
  readonly #object: PutObjectCommandInput;
  readonly #parts: { PartNumber: number; ETag?: string; ChecksumSHA256: string }[] = [];
  #id: string | undefined;

  constructor(client: S3Client, object: PutObjectCommandInput) {
    this.#client = client;
    this.#object = object;
  }

  async add(part: FilePart): Promise<void> {
    const { CompleteMultipartUploadCommand, CreateMultipartUploadCommand, UploadPartCommand } = await import(
      '@aws-sdk/client-s3'
    );
    if (part.index === 0) {
      const begun = new CreateMultipartUploadCommand({ ...this.#object, ChecksumAlgorithm: 'SHA256' });
      this.#id = (await this.#client.send(begun)).UploadId;
    }
    const body = await bodyOf(part);
    const PartNumber = part.index + 1;
    const { ETag } = await this.#client.send(new UploadPartCommand({ ...this.#where(), PartNumber, ...body }));
    this.#parts.push({ PartNumber, ChecksumSHA256: body.ChecksumSHA256, ...(ETag !== undefined && { ETag }) });
    if (part.isLast)
      await this.#client.send(
        new CompleteMultipartUploadCommand({ ...this.#where(), MultipartUpload: { Parts: this.#parts } }),
      );
  }

  /** Parts that nobody wants any more would cost as much as a file. */
  async abort(): Promise<void> {
    if (this.#id === undefined) return;
    const { AbortMultipartUploadCommand } = await import('@aws-sdk/client-s3');
    await this.#client.send(new AbortMultipartUploadCommand(this.#where())).catch(() => undefined);
  }

  #where() {
    return { Bucket: this.#object.Bucket, Key: this.#object.Key, UploadId: this.#id };
  }
}

async function bodyOf(part: FilePart) {
  const ChecksumSHA256 = (await digestOf(part, 'sha256')).toString('base64');
  return { Body: part.held ?? streamOf(part), ContentLength: part.bytes, ChecksumSHA256 };
}
