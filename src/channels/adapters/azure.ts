import { Readable } from 'node:stream';
import type { ContainerClient } from '@azure/storage-blob';
import { z } from 'zod';
import type { ErrorCategory, FieldProblem } from '../../domain/vocabulary.js';
import type { Declaration } from '../adapter.js';
import type { OutgoingMessage } from '../channel.js';
import { checked } from '../config.js';
import { digestOf, partsOf } from '../files/file-parts.js';
import { streamOf } from '../files/file-sources.js';
import { MAX_FILE_BYTES, type PlacedFile } from '../files/placed-files.js';
import { type Explanation, HttpStorage, type LinkWish, type StoredObject } from '../files/storage.js';
import type { Egress } from '../net/egress.js';
import type { HttpAnswer } from '../net/http.js';
import type { Wire } from '../net/wire.js';
import { elementOf } from '../vendors/xml.js';

/** Blobs in Azure Blob Storage (https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api). */
const DECLARATION: Declaration = {
  channel: 'STORAGE',
  provider: 'azure',
  configKey: 'storage',
  selectedBy: 'provider',
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested: 'Reads the properties of the container.',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

/**
 * Large files go in blocks, one after the other, so that none of them is held in memory; the service checks the MD5 of each
 * (https://learn.microsoft.com/rest/api/storageservices/put-block).
 */
const BLOCK_BYTES = 5 * 1_024 * 1_024;

interface AzureConfig {
  readonly accountName: string;
  readonly accountKey?: string;
  readonly sasToken?: string;
  readonly container: string;
  readonly endpoint?: string;
  readonly accessTier?: 'Hot' | 'Cool' | 'Cold' | 'Archive';
  readonly encryptionScope?: string;
}

export class AzureAdapter extends HttpStorage<AzureConfig> {
  /** As long as Waybill's own; Azure knows no bound. */
  readonly longestLinkSeconds = 366 * 86_400;
  /** And .../blob-service-error-codes */
  protected readonly source = 'https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes';
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
    super(DECLARATION, egress, ownSchema(egress));
  }

  protected async put(
    own: AzureConfig,
    { path, source, contentType }: PlacedFile,
    message: OutgoingMessage,
    wire: Wire,
  ) {
    const blob = (await containerOf(own, wire)).getBlockBlobClient(path);
    const scope = own.encryptionScope ? { encryptionScope: own.encryptionScope } : {};
    const options = {
      blobHTTPHeaders: { blobContentType: contentType },
      metadata: { waybillDelivery: message.deliveryId },
      ...(own.accessTier && { tier: own.accessTier }),
      ...scope,
    };
    const blocks: string[] = [];
    for await (const part of partsOf(source, BLOCK_BYTES)) {
      const isAll = part.index === 0 && part.isLast;
      if (isAll && part.held) return void (await blob.upload(part.held, part.bytes, options));
      const block = Buffer.from(String(part.index).padStart(6, '0')).toString('base64');
      const transactionalContentMD5 = await digestOf(part, 'md5');
      await blob.stageBlock(block, part.held ?? (() => streamOf(part)), part.bytes, {
        transactionalContentMD5,
        ...scope,
      });
      blocks.push(block);
    }
    await blob.commitBlockList(blocks, options);
  }

  /** A service SAS (https://learn.microsoft.com/rest/api/storageservices/create-service-sas) that reads this blob only. */
  async link(own: AzureConfig, path: string, { from, seconds, disposition }: LinkWish): Promise<string> {
    const {
      BlobSASPermissions,
      BlobServiceClient,
      SASProtocol,
      StorageSharedKeyCredential,
      generateBlobSASQueryParameters,
    } = await import('@azure/storage-blob');
    const { accountName, accountKey = '', container } = own;
    const endpoint = endpointOf(own);
    const signature = generateBlobSASQueryParameters(
      {
        containerName: container,
        blobName: path,
        permissions: BlobSASPermissions.parse('r'),
        expiresOn: new Date(from.getTime() + seconds * 1_000),
        contentDisposition: disposition,
        ...(endpoint.startsWith('https:') && { protocol: SASProtocol.Https }),
      },
      new StorageSharedKeyCredential(accountName, accountKey),
    );
    return `${new BlobServiceClient(endpoint).getContainerClient(container).getBlobClient(path).url}?${signature}`;
  }

  linkProblem({ accountKey, accessTier }: AzureConfig): FieldProblem | undefined {
    if (accountKey === undefined)
      return { path: 'accountKey', problem: 'is required: it is what links are signed with' };
    if (accessTier === 'Archive') return { path: 'accessTier', problem: 'Archive has nothing that a link could fetch' };
    return undefined;
  }

  protected async reach(own: AzureConfig, wire: Wire): Promise<void> {
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

function ownSchema(egress: Egress): z.ZodType {
  return z
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
    });
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

function bodyOf(body: unknown): Buffer | string | Readable {
  if (body instanceof Readable) return body;
  return body instanceof Uint8Array ? Buffer.from(body.buffer, body.byteOffset, body.byteLength) : String(body);
}

/** The SDK's own client would connect to any address and follow redirects. */
function clientOf(wire: Wire): HttpClient {
  return {
    async sendRequest(request) {
      const body: unknown = typeof request.body === 'function' ? request.body() : request.body;
      const answer = await wire.request({
        url: new URL(request.url),
        method: request.method,
        headers: request.headers.toJson(),
        ...(body !== undefined && body !== null && { body: bodyOf(body) }),
      });
      // The only way to headers of the SDK's own kind is a copy of those it gave.
      const headers = request.headers.clone();
      for (const name of request.headers.headerNames()) headers.remove(name);
      for (const [name, value] of Object.entries(answer.headers)) headers.set(name, String(value));
      return { request, status: answer.status, headers, bodyAsText: answer.body };
    },
  };
}
