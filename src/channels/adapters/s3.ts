import { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import { z } from 'zod';
import type { ErrorCategory, FieldProblem } from '../../domain/vocabulary.js';
import type { Declaration } from '../adapter.js';
import type { OutgoingMessage } from '../channel.js';
import { checked } from '../config.js';
import { MAX_FILE_BYTES, type PlacedFile } from '../files/placed-files.js';
import { type Explanation, HttpStorage, type LinkWish, type StoredObject } from '../files/storage.js';
import type { Egress } from '../net/egress.js';
import type { HttpAnswer } from '../net/http.js';
import type { Wire } from '../net/wire.js';
import { putObject } from '../vendors/s3-upload.js';
import { elementOf } from '../vendors/xml.js';

/** Objects in Amazon S3, and in whatever speaks its protocol (https://docs.aws.amazon.com/AmazonS3/latest/API/). */
const DECLARATION: Declaration = {
  channel: 'STORAGE',
  provider: 's3',
  configKey: 'storage',
  selectedBy: 'provider',
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested: 'HeadBucket: the bucket is there, and these credentials may see it.',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

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

export class S3Adapter extends HttpStorage<S3Config> {
  /** https://docs.aws.amazon.com/AmazonS3/latest/userguide/ShareObjectPreSignedURL.html */
  readonly longestLinkSeconds = 7 * 86_400;
  protected readonly source = 'https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html';
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
    super(DECLARATION, egress, ownSchema(egress));
  }

  protected async put(own: S3Config, { path, source, contentType }: PlacedFile, message: OutgoingMessage, wire: Wire) {
    const { objectLock } = own;
    const object = {
      Bucket: own.bucket,
      Key: path,
      ContentType: contentType,
      Metadata: { 'waybill-delivery': message.deliveryId },
      ...(own.serverSideEncryption && { ServerSideEncryption: own.serverSideEncryption }),
      ...(own.kmsKeyId && { SSEKMSKeyId: own.kmsKeyId }),
      ...(own.storageClass && { StorageClass: own.storageClass }),
      ...(objectLock && {
        ObjectLockMode: objectLock.mode,
        ObjectLockRetainUntilDate: new Date(Date.parse(message.requestedAt) + objectLock.days * 86_400_000),
      }),
    };
    await putObject(await clientOf(own, wire), object, source);
  }

  /** Signature Version 4 in the query (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html). */
  async link(own: S3Config, path: string, { from, seconds, disposition }: LinkWish): Promise<string> {
    const { GetObjectCommand } = await import('@aws-sdk/client-s3');
    const { getSignedUrl } = await import('@aws-sdk/s3-request-presigner');
    const command = new GetObjectCommand({ Bucket: own.bucket, Key: path, ResponseContentDisposition: disposition });
    return await getSignedUrl(await clientOf(own), command, { expiresIn: seconds, signingDate: from });
  }

  /** What lies in these classes must be restored first, which takes hours. */
  linkProblem({ storageClass }: S3Config): FieldProblem | undefined {
    const isFrozen = storageClass === 'GLACIER' || storageClass === 'DEEP_ARCHIVE';
    return isFrozen
      ? { path: 'storageClass', problem: `${storageClass} has nothing that a link could fetch` }
      : undefined;
  }

  protected async reach(own: S3Config, wire: Wire): Promise<void> {
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

function ownSchema(egress: Egress): z.ZodType {
  const text = (limit: number) =>
    z.string().regex(new RegExp(`^[\\x21-\\x7e]{1,${limit}}$`), 'must be printable and without spaces');
  return z
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
          mode: z.enum(['GOVERNANCE', 'COMPLIANCE']).describe('Who may lift it: those with a permission, or nobody.'),
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
    );
}

/** A client for one call. Making one takes less than 1 ms; keeping it would keep the way out of an attempt that is over. */
async function clientOf(own: S3Config, wire?: Wire): Promise<S3Client> {
  const { S3Client } = await import('@aws-sdk/client-s3');
  const { region, endpoint, accessKeyId, secretAccessKey, sessionToken } = own;
  return new S3Client({
    region,
    ...(endpoint !== undefined && { endpoint, forcePathStyle: true }),
    credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
    maxAttempts: 1, // whether and when to try again is decided elsewhere
    ...(wire && { requestHandler: handlerOf(wire) }),
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
      const request = {
        url,
        method,
        headers,
        ...(bytes !== undefined && { body: bytes as Buffer | string | Readable }),
      };
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
