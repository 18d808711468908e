import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import type { ChannelAdapter, ChannelDescription, OutgoingMessage } from '../channel.js';
import { endpoint } from '../config.js';
import type { Egress } from '../egress.js';
import { MAX_FILE_BYTES, type PlacedFile } from '../files.js';
import { accountKey, askGoogle, googleTokenEndpoint, type ServiceAccount, serviceAccountFields } from '../google.js';
import type { HttpAnswer } from '../http.js';
import { TokenCache } from '../oauth.js';
import { type Explanation, HttpStorage, type StoredObject, storageSchema } from '../storage.js';
import type { Wire, WireAnswer } from '../wire.js';

/**
 * Objects in Google Cloud Storage by its JSON API (https://cloud.google.com/storage/docs/json_api/v1). Not by Google's
 * package: it fetches tokens and follows resumable sessions with HTTP clients of its own, past the guard.
 */
const DESCRIPTION: ChannelDescription = {
  channel: 'STORAGE',
  provider: 'gcs',
  configKey: 'storage',
  selectedBy: 'provider',
  secretFields: ['config.privateKey', 'encryption.password'],
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

const ENDPOINT = 'https://storage.googleapis.com';
const SCOPE = 'https://www.googleapis.com/auth/devstorage.read_write';

interface GcsConfig extends ServiceAccount {
  readonly bucket: string;
  readonly endpoint?: string;
  readonly storageClass?: string;
  readonly kmsKeyName?: string;
}

export class GcsAdapter extends HttpStorage<GcsConfig> implements ChannelAdapter {
  readonly schema: z.ZodType;
  readonly #tokens = new TokenCache();
  /** `reason` of https://cloud.google.com/storage/docs/json_api/v1/status-codes, and `error` of RFC 6749, 5.2. */
  protected readonly categories: Readonly<Record<string, ErrorCategory>> = {
    authError: 'AUTHENTICATION',
    required: 'AUTHENTICATION',
    forbidden: 'AUTHENTICATION',
    insufficientPermissions: 'AUTHENTICATION',
    invalid_grant: 'AUTHENTICATION',
    invalid_client: 'AUTHENTICATION',
    notFound: 'CONFIGURATION',
    invalidParameter: 'CONFIGURATION',
    retentionPolicyNotMet: 'PERMANENT',
    uploadTooLarge: 'VALIDATION',
    rateLimitExceeded: 'RATE_LIMIT',
    userRateLimitExceeded: 'RATE_LIMIT',
    backendError: 'TEMPORARY',
    internalError: 'TEMPORARY',
  };

  constructor(egress: Egress) {
    super(egress);
    this.schema = storageSchema(
      DESCRIPTION.provider,
      z.strictObject({
        bucket: z
          .string()
          .regex(/^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/, 'must be the name of a bucket')
          .describe('The bucket.'),
        ...serviceAccountFields,
        endpoint: endpoint(egress, ENDPOINT),
        tokenEndpoint: googleTokenEndpoint(egress),
        storageClass: z
          .enum(['STANDARD', 'NEARLINE', 'COLDLINE', 'ARCHIVE'])
          .optional()
          .describe("How objects are kept, and what that costs. Default: the bucket's own."),
        kmsKeyName: z
          .string()
          .regex(/^projects\/[\w./-]{1,500}$/, 'must be projects/…/cryptoKeys/…')
          .optional()
          .describe("Key of Cloud KMS that encrypts the objects. Default: the bucket's own."),
      }),
      DESCRIPTION.limits.timeoutMs,
    );
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  /** Metadata and content in one request of type multipart/related. */
  protected async put(own: GcsConfig, { path, bytes, contentType }: PlacedFile, message: OutgoingMessage, wire: Wire) {
    const metadata = {
      name: path,
      contentType,
      metadata: { waybillDelivery: message.deliveryId },
      ...(own.storageClass && { storageClass: own.storageClass }),
    };
    const boundary = randomBytes(16).toString('hex');
    const head = `--${boundary}\r\ncontent-type: application/json; charset=utf-8\r\n\r\n${JSON.stringify(metadata)}\r\n--${boundary}\r\ncontent-type: ${contentType}\r\n\r\n`;
    const body = Buffer.concat([Buffer.from(head), bytes, Buffer.from(`\r\n--${boundary}--\r\n`)]);
    const query = new URLSearchParams({
      uploadType: 'multipart',
      ...(own.kmsKeyName && { kmsKeyName: own.kmsKeyName }),
    });
    await this.#call(own, wire, 'POST', `/upload/storage/v1/b/${own.bucket}/o?${query}`, {
      body,
      headers: { 'content-type': `multipart/related; boundary=${boundary}` },
    });
  }

  protected async probe(own: GcsConfig, wire: Wire): Promise<void> {
    await this.#call(own, wire, 'GET', `/storage/v1/b/${own.bucket}`);
  }

  protected async *list(own: GcsConfig, prefix: string, wire: Wire): AsyncIterable<StoredObject> {
    let pageToken: string | undefined;
    do {
      const query = new URLSearchParams({
        prefix,
        fields: 'nextPageToken,items(name,updated)',
        ...(pageToken && { pageToken }),
      });
      const { body } = await this.#call(own, wire, 'GET', `/storage/v1/b/${own.bucket}/o?${query}`);
      const page = JSON.parse(body) as { nextPageToken?: string; items?: { name: string; updated: string }[] };
      for (const { name, updated } of page.items ?? []) yield { path: name, modifiedAt: new Date(updated) };
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  protected async remove(own: GcsConfig, path: string, wire: Wire): Promise<void> {
    await this.#call(own, wire, 'DELETE', `/storage/v1/b/${own.bucket}/o/${encodeURIComponent(path)}`);
  }

  protected explain({ body }: HttpAnswer): Explanation {
    try {
      const { error, error_description: description } = JSON.parse(body) as GoogleError;
      if (typeof error === 'string') return { code: error, words: description ?? '' };
      const reason = error?.errors?.[0]?.reason;
      return { words: error?.message ?? '', ...(reason !== undefined && { code: reason }) };
    } catch {
      return { words: '' };
    }
  }

  protected host({ endpoint = ENDPOINT }: GcsConfig): string {
    return new URL(endpoint).host;
  }

  protected secrets({ privateKey, clientEmail }: GcsConfig) {
    return [privateKey, clientEmail];
  }

  async #call(
    own: GcsConfig,
    wire: Wire,
    method: string,
    path: string,
    { headers = {}, body }: { readonly headers?: Record<string, string>; readonly body?: Buffer } = {},
  ): Promise<WireAnswer> {
    const authorization = `Bearer ${await this.#tokens.get(accountKey(own), () => askGoogle(own, SCOPE, wire))}`;
    const url = new URL((own.endpoint ?? ENDPOINT).replace(/\/$/, '') + path);
    const answer = await wire.request({ url, method, headers: { ...headers, authorization }, ...(body && { body }) });
    if (answer.status === 401) this.#tokens.forget(accountKey(own));
    if (answer.status >= 400) throw new Error(`status ${answer.status}`);
    return answer;
  }
}

interface GoogleError {
  readonly error?: string | { readonly message?: string; readonly errors?: readonly { readonly reason?: string }[] };
  readonly error_description?: string;
}
