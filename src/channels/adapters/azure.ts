import type { ContainerClient } from '@azure/storage-blob';
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

/** Blobs in Azure Blob Storage (https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api). */
const DESCRIPTION: ChannelDescription = {
  channel: 'STORAGE',
  provider: 'azure',
  configKey: 'storage',
  selectedBy: 'provider',
  secretFields: ['config.accountKey', 'config.sasToken', 'encryption.password'],
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

/** Files from this size on go in blocks of it. */
const BLOCK_BYTES = 5 * 1_024 * 1_024;
const BLOCKS_AT_ONCE = 4;

interface AzureConfig {
  readonly accountName: string;
  readonly accountKey?: string;
  readonly sasToken?: string;
  readonly container: string;
  readonly endpoint?: string;
  readonly accessTier?: 'Hot' | 'Cool' | 'Cold' | 'Archive';
  readonly encryptionScope?: string;
}

export class AzureAdapter extends HttpStorage<AzureConfig> implements ChannelAdapter {
  readonly schema: z.ZodType;
  /** https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes and .../blob-service-error-codes */
  protected readonly categories: Readonly<Record<string, ErrorCategory>> = {
    AuthenticationFailed: 'AUTHENTICATION',
    AuthorizationFailure: 'AUTHENTICATION',
    AuthorizationPermissionMismatch: 'AUTHENTICATION',
    InvalidAuthenticationInfo: 'AUTHENTICATION',
    AccountIsDisabled: 'CONFIGURATION',
    ContainerNotFound: 'CONFIGURATION',
    ContainerDisabled: 'CONFIGURATION',
    InvalidHeaderValue: 'CONFIGURATION',
    BlobImmutableDueToPolicy: 'PERMANENT',
    RequestBodyTooLarge: 'VALIDATION',
    InvalidResourceName: 'VALIDATION',
    ServerBusy: 'RATE_LIMIT',
    OperationTimedOut: 'TEMPORARY',
    InternalError: 'TEMPORARY',
    ContainerBeingDeleted: 'TEMPORARY',
  };

  constructor(egress: Egress) {
    super(egress);
    this.schema = storageSchema(
      DESCRIPTION.provider,
      z
        .strictObject({
          accountName: z
            .string()
            .regex(/^[a-z0-9]{3,24}$/, 'must be 3 to 24 lower-case letters and digits')
            .describe('The storage account.'),
          accountKey: z
            .base64()
            .min(1)
            .optional()
            .describe('Key of the account; or use a `sasToken`, which can be limited.')
            .meta({ secret: true }),
          sasToken: z
            .string()
            .regex(/^\??sv=[\x21-\x7e]{1,2000}$/, 'must be a shared access signature: sv=…')
            .optional()
            .describe('Shared access signature: may create and write blobs, and list and delete them for a clean-up.')
            .meta({ secret: true }),
          container: z
            .string()
            .regex(/^[a-z0-9](?:-?[a-z0-9]){2,62}$/, 'must be the name of a container')
            .describe('The container.'),
          endpoint: checked((url) => egress.problemWithUrl(url))
            .optional()
            .describe("Base URL of the blob service. Default: Azure's, of the account."),
          accessTier: z
            .enum(['Hot', 'Cool', 'Cold', 'Archive'])
            .optional()
            .describe("How blobs are kept, and what that costs. Default: the account's own."),
          encryptionScope: z
            .string()
            .min(3)
            .max(63)
            .optional()
            .describe("Key that encrypts the blobs. Default: the container's own."),
        })
        .refine(({ accountKey, sasToken }) => (accountKey === undefined) !== (sasToken === undefined), {
          path: ['accountKey'],
          message: 'is required, or else sasToken, not both',
        }),
      DESCRIPTION.limits.timeoutMs,
    );
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  protected async put(
    own: AzureConfig,
    { path, bytes, contentType }: PlacedFile,
    message: OutgoingMessage,
    wire: Wire,
  ) {
    const blob = (await containerOf(own, wire)).getBlockBlobClient(path);
    await blob.uploadData(bytes, {
      blockSize: BLOCK_BYTES,
      maxSingleShotSize: BLOCK_BYTES,
      concurrency: BLOCKS_AT_ONCE,
      blobHTTPHeaders: { blobContentType: contentType },
      metadata: { waybillDelivery: message.deliveryId },
      ...(own.accessTier && { tier: own.accessTier }),
      ...(own.encryptionScope && { encryptionScope: own.encryptionScope }),
    });
  }

  protected async probe(own: AzureConfig, wire: Wire): Promise<void> {
    await (await containerOf(own, wire)).getProperties();
  }

  protected async *list(own: AzureConfig, prefix: string, wire: Wire): AsyncIterable<StoredObject> {
    const blobs = (await containerOf(own, wire)).listBlobsFlat({ prefix });
    for await (const { name, properties } of blobs) yield { path: name, modifiedAt: properties.lastModified };
  }

  protected async remove(own: AzureConfig, path: string, wire: Wire): Promise<void> {
    await (await containerOf(own, wire)).getBlobClient(path).deleteIfExists();
  }

  protected explain({ headers, body }: HttpAnswer): Explanation {
    const code = headers['x-ms-error-code'] ?? elementOf(body, 'Code');
    const words = elementOf(body, 'Message')?.split('\n')[0] ?? '';
    return { words, ...(typeof code === 'string' && { code }) };
  }

  protected host(own: AzureConfig): string {
    return new URL(endpointOf(own)).host;
  }

  protected secrets({ accountKey, sasToken }: AzureConfig) {
    return [accountKey, sasToken];
  }
}

function endpointOf({ endpoint, accountName }: AzureConfig): string {
  return (endpoint ?? `https://${accountName}.blob.core.windows.net`).replace(/\/$/, '');
}

async function containerOf(own: AzureConfig, wire: Wire): Promise<ContainerClient> {
  const { AnonymousCredential, BlobServiceClient, StorageSharedKeyCredential, newPipeline } = await import(
    '@azure/storage-blob'
  );
  const { accountName, accountKey, sasToken, container } = own;
  const credential =
    accountKey === undefined ? new AnonymousCredential() : new StorageSharedKeyCredential(accountName, accountKey);
  const pipeline = newPipeline(credential, {
    retryOptions: { maxTries: 1 }, // whether and when to try again is decided elsewhere
    httpClient: clientOf(wire),
  });
  const query = sasToken === undefined ? '' : `?${sasToken.replace(/^\?/, '')}`;
  return new BlobServiceClient(`${endpointOf(own)}${query}`, pipeline).getContainerClient(container);
}

type HttpClient = NonNullable<
  NonNullable<Parameters<typeof import('@azure/storage-blob')['newPipeline']>[1]>['httpClient']
>;

/** The SDK's own client would connect to any address and follow redirects. */
function clientOf(wire: Wire): HttpClient {
  return {
    async sendRequest(request) {
      const bytes: unknown = request.body;
      const answer = await wire.request({
        url: new URL(request.url),
        method: request.method,
        headers: request.headers.toJson(),
        ...(bytes !== undefined &&
          bytes !== null && { body: bytes instanceof Uint8Array ? Buffer.from(bytes) : String(bytes) }),
      });
      // The only way to headers of the SDK's own kind is a copy of those it gave.
      const headers = request.headers.clone();
      for (const name of request.headers.headerNames()) headers.remove(name);
      for (const [name, value] of Object.entries(answer.headers)) headers.set(name, String(value));
      return { request, status: answer.status, headers, bodyAsText: answer.body };
    },
  };
}
