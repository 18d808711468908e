import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import type { Declaration } from '../adapter.js';
import type { FileSource, OutgoingMessage } from '../channel.js';
import { endpoint } from '../config.js';
import { digestOf, partsOf } from '../files/file-parts.js';
import { streamOf } from '../files/file-sources.js';
import { MAX_FILE_BYTES, type PlacedFile } from '../files/placed-files.js';
import { type Explanation, HttpStorage, type LinkWish, type StoredObject } from '../files/storage.js';
import type { Egress } from '../net/egress.js';
import type { HttpAnswer } from '../net/http.js';
import { TokenCache } from '../net/oauth.js';
import type { Wire, WireAnswer } from '../net/wire.js';
import {
  accountKey,
  askGoogle,
  googleTokenEndpoint,
  type ServiceAccount,
  serviceAccountFields,
} from '../vendors/google.js';
import { signedUrl } from '../vendors/google-signed-url.js';

/**
 * Objects in Google Cloud Storage by its JSON API (https://cloud.google.com/storage/docs/json_api/v1). Not by Google's
 * package: it fetches tokens and follows resumable sessions with HTTP clients of its own, past the guard.
 */
const DECLARATION: Declaration = {
  channel: 'STORAGE',
  provider: 'gcs',
  configKey: 'storage',
  selectedBy: 'provider',
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested: 'Reads the bucket, which needs the permission storage.buckets.get.',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

/** Larger files go in parts of it, which have to be multiples of 256 KiB, so that none of them is held in memory. */
const PART_BYTES = 8 * 1_024 * 1_024;
const JSON_TYPE = 'application/json; charset=utf-8';
const ENDPOINT = 'https://storage.googleapis.com';
const SCOPE = 'https://www.googleapis.com/auth/devstorage.read_write';

interface GcsConfig extends ServiceAccount {
  readonly bucket: string;
  readonly endpoint?: string;
  readonly storageClass?: string;
  readonly kmsKeyName?: string;
}

export class GcsAdapter extends HttpStorage<GcsConfig> {
  /** https://cloud.google.com/storage/docs/access-control/signed-urls */
  readonly longestLinkSeconds = 7 * 86_400;
  readonly #tokens = new TokenCache();
  /** `reason` of https://cloud.google.com/storage/docs/json_api/v1/status-codes, and `error` of RFC 6749, 5.2. */
  protected readonly source = 'https://cloud.google.com/storage/docs/json_api/v1/status-codes';
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
    resumeIncomplete: 'TEMPORARY', // 308, as Google calls it: not all of a part has arrived
    backendError: 'TEMPORARY',
    internalError: 'TEMPORARY',
  };

  constructor(egress: Egress) {
    super(DECLARATION, egress, ownSchema(egress));
  }

  protected async put(own: GcsConfig, { path, source, contentType }: PlacedFile, message: OutgoingMessage, wire: Wire) {
    const { bytes } = source;
    const metadata = JSON.stringify({
      name: path,
      contentType,
      metadata: { waybillDelivery: message.deliveryId },
      ...(own.storageClass && { storageClass: own.storageClass }),
      // Google stores nothing that has another one.
      ...(bytes !== undefined && { md5Hash: (await digestOf(source, 'md5')).toString('base64') }),
    });
    const query = own.kmsKeyName ? `&${new URLSearchParams({ kmsKeyName: own.kmsKeyName })}` : '';
    const place = `/upload/storage/v1/b/${own.bucket}/o?uploadType=`;
    if (bytes === undefined || bytes > PART_BYTES) {
      const headers = { 'content-type': JSON_TYPE, 'x-upload-content-type': contentType };
      const begun = await this.#call(own, wire, 'POST', `${place}resumable${query}`, { body: metadata, headers });
      return await inParts(source, new URL(String(begun.headers.location)), wire);
    }
    // Metadata and content in one request of type multipart/related.
    const boundary = randomBytes(16).toString('hex');
    const head = Buffer.from(
      `--${boundary}\r\ncontent-type: ${JSON_TYPE}\r\n\r\n${metadata}\r\n--${boundary}\r\ncontent-type: ${contentType}\r\n\r\n`,
    );
    const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
    async function* body() {
      yield head;
      yield* source.read();
      yield tail;
    }
    await this.#call(own, wire, 'POST', `${place}multipart${query}`, {
      body: Readable.from(body(), { objectMode: false }),
      headers: {
        'content-type': `multipart/related; boundary=${boundary}`,
        'content-length': String(head.length + bytes + tail.length),
      },
    });
  }

  async link(own: GcsConfig, path: string, wish: LinkWish): Promise<string> {
    return signedUrl(own, `${(own.endpoint ?? ENDPOINT).replace(/\/$/, '')}/${own.bucket}`, path, wish);
  }

  linkProblem(): undefined {
    return undefined;
  }

  protected async reach(own: GcsConfig, wire: Wire): Promise<void> {
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

  protected explain({ body, status }: HttpAnswer): Explanation {
    if (status === 308) return { code: 'resumeIncomplete', words: 'not all of a part has arrived' };
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
    { headers = {}, body }: { readonly headers?: Record<string, string>; readonly body?: string | Readable } = {},
  ): Promise<WireAnswer> {
    const authorization = `Bearer ${await this.#tokens.get(accountKey(own), () => askGoogle(own, SCOPE, wire))}`;
    const url = new URL((own.endpoint ?? ENDPOINT).replace(/\/$/, '') + path);
    const answer = await wire.request({ url, method, headers: { ...headers, authorization }, ...(body && { body }) });
    if (answer.status === 401) this.#tokens.forget(accountKey(own));
    if (answer.status >= 400) throw new Error(`status ${answer.status}`);
    return answer;
  }
}

function ownSchema(egress: Egress): z.ZodType {
  return z.strictObject({
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
  });
}

/** One part after the other to where Google said (https://cloud.google.com/storage/docs/performing-resumable-uploads). */
async function inParts(source: FileSource, url: URL, wire: Wire): Promise<void> {
  for await (const part of partsOf(source, PART_BYTES)) {
    const end = part.start + part.bytes;
    const total = part.isLast ? end : '*';
    const range = part.bytes === 0 ? `bytes */${total}` : `bytes ${part.start}-${end - 1}/${total}`;
    const headers = { 'content-length': String(part.bytes), 'content-range': range };
    const answer = await wire.request({ url, method: 'PUT', headers, body: part.held ?? streamOf(part) });
    const isTaken = part.isLast
      ? answer.status === 200 || answer.status === 201
      : answer.status === 308 && answer.headers.range === `bytes=0-${end - 1}`;
    if (!isTaken) throw new Error(`status ${answer.status}`);
  }
}

interface GoogleError {
  readonly error?: string | { readonly message?: string; readonly errors?: readonly { readonly reason?: string }[] };
  readonly error_description?: string;
}
