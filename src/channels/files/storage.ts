import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import { Adapter, type Declaration, inField, NO_MESSAGE, problemAt } from '../adapter.js';
import type {
  ChannelDescription,
  CleanUp,
  CleanUpOptions,
  ErrorTable,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { type Outbound, outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import type { HttpAnswer } from '../net/http.js';
import { categoryOf, retryAfterMs } from '../net/http.js';
import { Wire } from '../net/wire.js';
import { abortReason, presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import { fixedFolders, isOfDelivery, pathPattern, problemWithPath } from './paths.js';
import { type FileConfig, fileFields, filesOf, type PlacedFile } from './placed-files.js';

/** What the storage providers have in common: files at paths that a template makes, kept for a while. */

const DAY_MS = 86_400_000;
/** Objects removed by one clean-up; the next one goes on. */
const REMOVED_AT_ONCE = 10_000;

export interface StorageConfig<Own> extends FileConfig, Outbound {
  readonly config: Own;
  readonly retention?: Retention;
}

export interface Retention {
  readonly days: number;
  readonly autoCleanup?: boolean;
}

export interface StoredObject {
  readonly path: string;
  readonly modifiedAt: Date;
}

/** What a provider's refusal says: its own code, and its words. */
export interface Explanation {
  readonly code?: string;
  readonly words: string;
}

export const retention = z
  .strictObject({
    days: z.int().min(1).max(36_500).describe('How long files are kept.'),
    autoCleanup: z.boolean().optional().describe('Remove older ones, once an hour.').meta({ default: false }),
  })
  .optional()
  .describe('How long files are kept. Only files of this path, with the id of a delivery in it, are ever removed.');

/**
 * The schema of a provider, around the fields that only it has.
 *
 * @param more fields of whoever does something else with the files
 */
export function storageSchema(
  egress: Egress,
  { provider, limits }: Pick<ChannelDescription, 'provider' | 'limits'>,
  own: z.ZodType,
  more: z.ZodRawShape = {},
): z.ZodType {
  return z
    .strictObject({
      provider: z.literal(provider).describe('Chooses this provider.'),
      config: own.describe('Where the files go, and who brings them.'),
      ...fileFields,
      retention,
      ...outbound(egress, limits.timeoutMs),
      ...more,
    })
    .refine(isCleanable, UNCLEANABLE);
}

/** What a clean-up removes has to be known for a file of a delivery. */
export const isCleanable = (config: {
  readonly path: string;
  readonly retention?: { autoCleanup?: boolean | undefined } | undefined;
}): boolean => config.retention?.autoCleanup !== true || isOfDelivery(config.path);

export const UNCLEANABLE = {
  path: ['retention', 'autoCleanup'],
  message: 'needs a path with {deliveryId}, or one that ends with a slash: what else would tell whose a file is?',
};

export interface StoredFile {
  readonly path: string;
  readonly contentType: string;
  readonly bytes: number;
}

/** A link by which anybody may fetch a file from the provider itself. */
export interface LinkWish {
  readonly from: Date;
  /** How long it is good. */
  readonly seconds: number;
  /** Content-Disposition that the provider is to answer with. */
  readonly disposition: string;
}

/** A provider that is spoken to over HTTP. */
export abstract class HttpStorage<Own> extends Adapter<StorageConfig<Own>> {
  /** The form of `config`, the fields that only this provider has. */
  readonly own: z.ZodType;
  readonly egress: Egress;
  /** The longest that a link of the provider can be good. */
  abstract readonly longestLinkSeconds: number;
  /** Where the provider documents its codes. */
  protected abstract readonly source: string;
  /** What the provider's own codes mean, where they say more than the status. */
  protected abstract readonly categories: Readonly<Record<string, ErrorCategory>>;

  constructor(declaration: Declaration, egress: Egress, own: z.ZodType) {
    super(declaration, storageSchema(egress, declaration, own), inField('path', problemWithPath));
    this.egress = egress;
    this.own = own;
  }

  /** Signs a link. Asks nobody, so nobody has to be reached. */
  abstract link(own: Own, path: string, wish: LinkWish): Promise<string>;
  /** Why no link can be made, or would not be good for anything, with such a configuration. */
  abstract linkProblem(own: Own): FieldProblem | undefined;
  protected abstract put(own: Own, file: PlacedFile, message: OutgoingMessage, wire: Wire): Promise<void>;
  /** Rejects when the place is not there or these credentials may not see it. */
  protected abstract reach(own: Own, wire: Wire): Promise<void>;
  protected abstract list(own: Own, prefix: string, wire: Wire): AsyncIterable<StoredObject>;
  protected abstract remove(own: Own, path: string, wire: Wire): Promise<void>;
  protected abstract explain(answer: HttpAnswer): Explanation;
  protected abstract host(own: Own): string;
  protected abstract secrets(own: Own): readonly (string | undefined)[];

  get errors(): ErrorTable {
    return { source: this.source, categories: this.categories };
  }

  protected async probe(config: StorageConfig<Own>, signal: AbortSignal): Promise<FieldProblem | undefined> {
    const wire = this.#wire(config, signal);
    try {
      await this.reach(config.config, wire);
      return undefined;
    } catch (error) {
      return problemAt('config', this.#refused(error, config, wire, NO_MESSAGE, new Date()));
    }
  }

  protected async deliver(_: StorageConfig<Own>, message: OutgoingMessage, options: SendOptions): Promise<SendOutcome> {
    const stored = await this.store(message, options);
    if ('kind' in stored) return stored;
    const [first] = stored;
    return { kind: 'accepted', delivered: true, ...(first && { providerMessageId: first.path }) };
  }

  /** Uploads the files of a message. */
  async store(message: OutgoingMessage, { now, signal }: SendOptions): Promise<readonly StoredFile[] | Rejected> {
    const config = message.config as unknown as StorageConfig<Own>;
    if (signal.aborted) return unanswered(abortReason(signal), this.host(config.config), false);
    const files = await filesOf(message, config);
    if ('kind' in files) return files;
    const wire = this.#wire(config, signal);
    const stored: StoredFile[] = [];
    try {
      for (const [index, { path: given, contentType, source }] of files.list.entries()) {
        const path = withoutSlash(given);
        await this.put(config.config, { path, contentType, source }, message, wire);
        stored.push({ path, contentType, bytes: files.bytesOf(index) });
      }
    } catch (error) {
      return files.refusal ?? this.#refused(error, config, wire, message, now);
    }
    return stored;
  }

  async cleanUp(config: JsonObject, { organizationId, now, signal }: CleanUpOptions): Promise<CleanUp> {
    const storage = config as unknown as StorageConfig<Own>;
    if (storage.retention?.autoCleanup !== true) return { removed: 0 };
    const before = now.getTime() - storage.retention.days * DAY_MS;
    const pattern = pathPattern(storage.path, organizationId);
    const wire = this.#wire(storage, signal);
    let removed = 0;
    for await (const { path, modifiedAt } of this.list(
      storage.config,
      withoutSlash(fixedFolders(storage.path, organizationId)),
      wire,
    )) {
      if (modifiedAt.getTime() >= before || !pattern.test(path)) continue;
      await this.remove(storage.config, path, wire);
      removed += 1;
      if (removed === REMOVED_AT_ONCE) break;
    }
    return { removed };
  }

  #wire(config: StorageConfig<Own>, signal: AbortSignal): Wire {
    return new Wire(this.egress, config, signal, config.timeout ?? this.describe().limits.timeoutMs);
  }

  #refused(error: unknown, { config }: StorageConfig<Own>, wire: Wire, message: OutgoingMessage, now: Date): Rejected {
    const host = this.host(config);
    const { last } = wire;
    if (last?.kind === 'silence') return unanswered(last.error, host, wire.hasSent);
    if (!last) return rejected('CONFIGURATION', 'INVALID_REQUEST', `no request for ${host} can be made of this`);
    if (last.status < 300) {
      const name = error instanceof Error ? error.name : 'error';
      return rejected(
        'TEMPORARY',
        'UNREADABLE_ANSWER',
        `${host} answered ${last.status}, which makes no sense: ${name}`,
      );
    }
    const { code, words } = this.explain(last);
    const secrets = this.secrets(config).flatMap((secret) => secret ?? []);
    const shown = presentable(words, message, secrets);
    const category = (code !== undefined && this.categories[code]) || categoryOf(last.status);
    const detail = `${host} answered ${last.status}${code === undefined ? '' : ` ${presentable(code, message, secrets)}`}${shown && `: ${shown}`}`;
    const mayComeBack = category === 'RATE_LIMIT' || category === 'TEMPORARY';
    const wait = mayComeBack ? retryAfterMs(last.headers['retry-after'], now) : undefined;
    return rejected(category, `HTTP_${last.status}`, detail, wait === undefined ? {} : { retryAfterMs: wait });
  }
}

/** Names of objects have no leading slash, or a browser of them shows a folder without a name. */
const withoutSlash = (path: string): string => path.replace(/^\/+/, '');
