import type { FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import { Adapter } from '../adapter.js';
import type { CleanUp, CleanUpOptions, ErrorTable, OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import type { DownloadsPort } from '../files/downloads.js';
import { DEFAULT_EXPIRY_SECONDS, expiry, linkExpiry } from '../files/link-expiry.js';
import { type HttpStorage, type StorageConfig, storageSchema } from '../files/storage.js';
import { rejected } from '../outcome.js';

/** What a link of Waybill's own can do, and one that somebody else serves cannot. */
const IMPOSSIBLE: Readonly<Record<string, string>> = {
  password: 'is not possible here: the provider serves the link, and asks for nothing',
  maxUses: 'is not possible here: the provider serves the link, and does not count',
  viewOnly: 'is not possible here: the provider serves the link, and offers files for saving',
};

interface LinkedConfig<Own> extends StorageConfig<Own> {
  readonly expiresInSeconds?: number;
}

/**
 * Files uploaded to a provider of storage, and the provider's own links to them (docs/downloads.md): as its channel STORAGE
 * uploads them, with the same configuration. Who fetches them, and how often, is known to the provider alone.
 */
export class LinkedDownloadAdapter<Own> extends Adapter<LinkedConfig<Own>> {
  readonly errors: ErrorTable;
  readonly #storage: HttpStorage<Own>;
  readonly #downloads: DownloadsPort | undefined;

  /** @param downloads missing where the adapter only describes itself */
  constructor(storage: HttpStorage<Own>, downloads?: DownloadsPort) {
    const { provider, acceptanceIsDelivery, inDoubt, limits, tested = '' } = storage.describe();
    const own = storage.own.superRefine((config, context) => {
      const found = storage.linkProblem(config as Own);
      if (found) context.addIssue({ code: 'custom', path: [found.path], message: found.problem });
    });
    const longest = storage.longestLinkSeconds;
    const schema = storageSchema(storage.egress, { provider, limits }, own, {
      expiresInSeconds: expiry(longest).describe(
        'How long the links are good after the delivery, in seconds. Files stay until `retention` ends them.',
      ),
    });
    super(
      {
        ...{ channel: 'DOWNLOAD', provider, configKey: 'download', selectedBy: 'provider', idempotency: 'keyed' },
        ...{ acceptanceIsDelivery, inDoubt, limits, tested },
      },
      schema,
      linkExpiry(longest),
    );
    this.errors = storage.errors;
    this.#storage = storage;
    this.#downloads = downloads;
  }

  override validate(config: JsonObject): FieldProblem[] {
    return super.validate(config).map(({ path, problem }) => ({ path, problem: IMPOSSIBLE[path] ?? problem }));
  }

  protected async probe(config: LinkedConfig<Own>, signal: AbortSignal): Promise<FieldProblem | undefined> {
    return (await this.#storage.test(config as unknown as JsonObject, { signal })).problems[0];
  }

  protected async deliver(
    { config: own, expiresInSeconds: seconds = DEFAULT_EXPIRY_SECONDS }: LinkedConfig<Own>,
    message: OutgoingMessage,
    options: SendOptions,
  ): Promise<SendOutcome> {
    if (!this.#downloads) throw new Error('no downloads are plugged in');
    const stored = await this.#storage.store(message, options);
    if ('kind' in stored) return stored;
    const { organizationId, deliveryId } = message;
    const files = await Promise.all(
      stored.map(async ({ path, contentType, bytes }) => {
        const name = path.slice(path.lastIndexOf('/') + 1);
        const url = await this.#storage.link(own, path, { from: options.now, seconds, disposition: savedAs(name) });
        return { name, contentType, bytes, url };
      }),
    );
    const expiresAt = new Date(options.now.getTime() + seconds * 1_000).toISOString();
    try {
      const { id } = await this.#downloads.offerLinked(
        { organizationId, deliveryId, provider: this.describe().provider, files, expiresAt },
        options.attemptKey,
      );
      return { kind: 'accepted', delivered: true, providerMessageId: id };
    } catch {
      return rejected('TEMPORARY', 'DOWNLOADS_UNAVAILABLE', 'the links could not be recorded');
    }
  }

  cleanUp(config: JsonObject, options: CleanUpOptions): Promise<CleanUp> {
    return this.#storage.cleanUp(config, options);
  }
}

/** RFC 6266 and RFC 8187: to be saved under its name, whatever characters are in it. */
const savedAs = (name: string): string =>
  `attachment; filename*=UTF-8''${encodeURIComponent(name.replace(/\p{Surrogate}/gu, '_')).replace(
    /['()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  )}`;
