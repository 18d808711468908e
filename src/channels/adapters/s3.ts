import { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import type { ChannelAdapter, ChannelDescription, OutgoingMessage } from '../channel.js';
import { checked } from '../config.js';
import type { Egress } from '../egress.js';
import { MAX_FILE_BYTES, type PlacedFile } from '../files.js';
import type { HttpAnswer } from '../http.js';
import { type Explanation, HttpStorage, type StoredObject, storageSchema } from '../storage.js';
import type { Wire } from '../wire.js';
import { elementOf } from '../xml.js';

/** Objects in Amazon S3, and in whatever speaks its protocol (https://docs.aws.amazon.com/AmazonS3/latest/API/). */
const DESCRIPTION: ChannelDescription = {
  channel: 'STORAGE',
  provider: 's3',
  configKey: 'storage',
  selectedBy: 'provider',
  secretFields: ['config.secretAccessKey', 'config.sessionToken', 'encryption.password'],
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

/** Files from this size on go in parts of it, so that a part that fails costs no more. S3's least is 5 MiB. */
const PART_BYTES = 5 * 1_024 * 1_024;
const PARTS_AT_ONCE = 4;

const STORAGE_CLASSES = [
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'GLACIER',
  'DEEP_ARCHIVE',
  'GLACIER_IR',
  'EXPRESS_ONEZONE',
] as const;

interface S3Config {
  readonly region: string;
  readonly bucket: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly endpoint?: string;
  readonly serverSideEncryption?: 'AES256' | 'aws:kms' | 'aws:kms:dsse';
  readonly kmsKeyId?: string;
  readonly storageClass?: (typeof STORAGE_CLASSES)[number];
  readonly objectLock?: { readonly mode: 'GOVERNANCE' | 'COMPLIANCE'; readonly days: number };
}

export class S3Adapter extends HttpStorage<S3Config> implements ChannelAdapter {
  readonly schema: z.ZodType;
  /** https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
  protected readonly categories: Readonly<Record<string, ErrorCategory>> = {
    AccessDenied: 'AUTHENTICATION',
    InvalidAccessKeyId: 'AUTHENTICATION',
    SignatureDoesNotMatch: 'AUTHENTICATION',
    ExpiredToken: 'AUTHENTICATION',
    InvalidToken: 'AUTHENTICATION',
    RequestTimeTooSkewed: 'CONFIGURATION',
    NoSuchBucket: 'CONFIGURATION',
    InvalidBucketName: 'CONFIGURATION',
    PermanentRedirect: 'CONFIGURATION', // the bucket is in another region
    AuthorizationHeaderMalformed: 'CONFIGURATION', // so it is here
    InvalidStorageClass: 'CONFIGURATION',
    InvalidRequest: 'CONFIGURATION', // object lock on a bucket without it
    'KMS.NotFoundException': 'CONFIGURATION',
    'KMS.DisabledException': 'CONFIGURATION',
    EntityTooLarge: 'VALIDATION',
    KeyTooLongError: 'VALIDATION',
    SlowDown: 'RATE_LIMIT',
    RequestTimeout: 'TEMPORARY',
    OperationAborted: 'TEMPORARY',
    InternalError: 'TEMPORARY',
    ServiceUnavailable: 'TEMPORARY',
  };

  constructor(egress: Egress) {
    super(egress);
    const text = (limit: number) =>
      z.string().regex(new RegExp(`^[\\x21-\\x7e]{1,${limit}}$`), 'must be printable and without spaces');
    this.schema = storageSchema(
      DESCRIPTION.provider,
      z
        .strictObject({
          region: z
            .string()
            .regex(/^[a-z0-9-]{1,40}$/, 'must be a region such as eu-central-1')
            .describe('Region of the bucket.'),
          bucket: z
            .string()
            .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'must be the name of a bucket')
            .describe('The bucket.'),
          accessKeyId: text(128).describe('Id of the access key.'),
          secretAccessKey: text(256).describe('The access key.').meta({ secret: true }),
          sessionToken: text(4_096).optional().describe('Of temporary credentials.').meta({ secret: true }),
          endpoint: checked((url) => egress.problemWithUrl(url))
            .optional()
            .describe("Base URL of another server that speaks S3. Default: Amazon's, of the region."),
          serverSideEncryption: z
            .enum(['AES256', 'aws:kms', 'aws:kms:dsse'])
            .optional()
            .describe("How S3 encrypts the objects. Default: the bucket's own setting."),
          kmsKeyId: text(2_048).optional().describe("Id or ARN of the KMS key. Default: the account's own for S3."),
          storageClass: z
            .enum(STORAGE_CLASSES)
            .optional()
            .describe('How objects are kept, and what that costs.')
            .meta({ default: 'STANDARD' }),
          objectLock: z
            .strictObject({
              mode: z
                .enum(['GOVERNANCE', 'COMPLIANCE'])
                .describe('Who may lift it: those with a permission, or nobody.'),
              days: z.int().min(1).max(36_500).describe('How long, from the attempt on.'),
            })
            .optional()
            .describe('Objects that nobody can change or remove for a while. The bucket must have object lock.'),
        })
        .refine(
          ({ kmsKeyId, serverSideEncryption }) => kmsKeyId === undefined || serverSideEncryption?.startsWith('aws:kms'),
          {
            path: ['kmsKeyId'],
            message: 'needs serverSideEncryption aws:kms or aws:kms:dsse',
          },
        ),
      DESCRIPTION.limits.timeoutMs,
    );
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  protected async put(own: S3Config, { path, bytes, contentType }: PlacedFile, message: OutgoingMessage, wire: Wire) {
    const { Upload } = await import('@aws-sdk/lib-storage');
    const { objectLock } = own;
    const upload = new Upload({
      client: await clientOf(own, wire),
      partSize: PART_BYTES,
      queueSize: PARTS_AT_ONCE,
      params: {
        Bucket: own.bucket,
        Key: path,
        Body: bytes,
        ContentType: contentType,
        Metadata: { 'waybill-delivery': message.deliveryId },
        ...(own.serverSideEncryption && { ServerSideEncryption: own.serverSideEncryption }),
        ...(own.kmsKeyId && { SSEKMSKeyId: own.kmsKeyId }),
        ...(own.storageClass && { StorageClass: own.storageClass }),
        ...(objectLock && {
          ObjectLockMode: objectLock.mode,
          ObjectLockRetainUntilDate: new Date(Date.parse(message.requestedAt) + objectLock.days * 86_400_000),
        }),
      },
    });
    await upload.done();
  }

  protected async probe(own: S3Config, wire: Wire): Promise<void> {
    const { HeadBucketCommand } = await import('@aws-sdk/client-s3');
    await (await clientOf(own, wire)).send(new HeadBucketCommand({ Bucket: own.bucket }));
  }

  protected async *list(own: S3Config, prefix: string, wire: Wire): AsyncIterable<StoredObject> {
    const { paginateListObjectsV2 } = await import('@aws-sdk/client-s3');
    const pages = paginateListObjectsV2({ client: await clientOf(own, wire) }, { Bucket: own.bucket, Prefix: prefix });
    for await (const { Contents = [] } of pages)
      for (const { Key, LastModified } of Contents)
        if (Key && LastModified) yield { path: Key, modifiedAt: LastModified };
  }

  protected async remove(own: S3Config, path: string, wire: Wire): Promise<void> {
    const { DeleteObjectCommand } = await import('@aws-sdk/client-s3');
    await (await clientOf(own, wire)).send(new DeleteObjectCommand({ Bucket: own.bucket, Key: path }));
  }

  protected explain({ body }: HttpAnswer): Explanation {
    const code = elementOf(body, 'Code');
    return { words: elementOf(body, 'Message') ?? '', ...(code !== undefined && { code }) };
  }

  protected host({ endpoint, region }: S3Config): string {
    return endpoint === undefined ? `s3.${region}.amazonaws.com` : new URL(endpoint).host;
  }

  protected secrets({ secretAccessKey, sessionToken, accessKeyId }: S3Config) {
    return [secretAccessKey, sessionToken, accessKeyId];
  }
}

/** A client for one call. Making one takes less than 1 ms; keeping it would keep the way out of an attempt that is over. */
async function clientOf(own: S3Config, wire: Wire): Promise<S3Client> {
  const { S3Client } = await import('@aws-sdk/client-s3');
  const { region, endpoint, accessKeyId, secretAccessKey, sessionToken } = own;
  return new S3Client({
    region,
    ...(endpoint !== undefined && { endpoint, forcePathStyle: true }),
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
    maxAttempts: 1, // whether and when to try again is decided elsewhere
    requestHandler: handlerOf(wire),
  });
}

/** What the SDK asks of its HTTP client (smithy's RequestHandler). */
interface SmithyRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | readonly string[] | null>>;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

function handlerOf(wire: Wire) {
  return {
    metadata: { handlerProtocol: 'http/1.1' },
    destroy: () => undefined,
    updateHttpClientConfig: () => undefined,
    httpHandlerConfigs: () => ({}),
    async handle({ protocol, hostname, port, path, query, method, headers, body }: SmithyRequest) {
      const url = new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}`);
      for (const [name, value] of Object.entries(query ?? {}))
        for (const each of Array.isArray(value) ? value : [value ?? '']) url.searchParams.append(name, each as string);
      const bytes = body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : body;
      const request = { url, method, headers, ...(bytes !== undefined && { body: bytes as Buffer | string }) };
      const answer = await wire.request(request);
      const response = {
        statusCode: answer.status,
        headers: answer.headers as Record<string, string>,
        body: Readable.from([Buffer.from(answer.body)]),
      };
      return { response };
    },
  };
}
