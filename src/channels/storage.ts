import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../domain/vocabulary.js';
import type {
  ChannelDescription,
  CleanUp,
  CleanUpOptions,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from './channel.js';
import { problemsOf, timeout } from './config.js';
import type { Egress } from './egress.js';
import { type FileConfig, fileFields, filesOf, type PlacedFile } from './files.js';
import type { HttpAnswer } from './http.js';
import { categoryOf, retryAfterMs } from './http.js';
import { abortReason, presentable, type Rejected, rejected, unanswered } from './outcome.js';
import { fixedFolders, isOfDelivery, pathPattern, problemWithPath } from './paths.js';
import { Wire } from './wire.js';

/** What the storage providers have in common: files at paths that a template makes, kept for a while. */

const DAY_MS = 86_400_000;
/** Objects removed by one clean-up; the next one goes on. */
const REMOVED_AT_ONCE = 10_000;

export interface StorageConfig<Own> extends FileConfig {
  readonly config: Own;
  readonly retention?: Retention;
  readonly timeout?: number;
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

/** The schema of a provider, around the fields that only it has. */
export function storageSchema(provider: string, own: z.ZodType, timeoutMs: number): z.ZodType {
  return z
    .strictObject({
      provider: z.literal(provider).describe('Chooses this provider.'),
      config: own.describe('Where the files go, and who brings them.'),
      ...fileFields,
      retention,
      timeout: timeout(timeoutMs),
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

/** A provider that is spoken to over HTTP. */
export abstract class HttpStorage<Own> {
  abstract readonly schema: z.ZodType;
  readonly egress: Egress;
  /** What the provider's own codes mean, where they say more than the status. */
  protected abstract readonly categories: Readonly<Record<string, ErrorCategory>>;

  constructor(egress: Egress) {
    this.egress = egress;
  }

  abstract describe(): ChannelDescription;
  protected abstract put(own: Own, file: PlacedFile, message: OutgoingMessage, wire: Wire): Promise<void>;
  /** Rejects when the place is not there or these credentials may not see it. */
  protected abstract probe(own: Own, wire: Wire): Promise<void>;
  protected abstract list(own: Own, prefix: string, wire: Wire): AsyncIterable<StoredObject>;
  protected abstract remove(own: Own, path: string, wire: Wire): Promise<void>;
  protected abstract explain(answer: HttpAnswer): Explanation;
  protected abstract host(own: Own): string;
  protected abstract secrets(own: Own): readonly (string | undefined)[];

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  /** A bare address is a path in the configured place. */
  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, path: address };
  }

  validateAddress(address: string): string | undefined {
    return problemWithPath(address);
  }

  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const storage = config as unknown as StorageConfig<Own>;
    const wire = this.#wire(storage, signal);
    const startedAt = performance.now();
    try {
      await this.probe(storage.config, wire);
      return { ok: true, latencyMs: performance.now() - startedAt, problems: [] };
    } catch (error) {
      const latencyMs = performance.now() - startedAt;
      const nothing = { config, content: {}, deliveryId: '', organizationId: '', requestedAt: '' };
      const { code, detail } = this.#refused(error, storage, wire, nothing, new Date());
      return { ok: false, latencyMs, problems: [{ path: 'config', problem: `${code}: ${detail}` }] };
    }
  }

  async send(message: OutgoingMessage, { now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as StorageConfig<Own>;
    if (signal.aborted) return unanswered(abortReason(signal), this.host(config.config), false);
    const files = await filesOf(message, config);
    if ('kind' in files) return files;
    const wire = this.#wire(config, signal);
    try {
      for (const { path, contentType, bytes } of files) {
        await this.put(config.config, { path: withoutSlash(path), contentType, bytes }, message, wire);
      }
    } catch (error) {
      return this.#refused(error, config, wire, message, now);
    }
    const [first] = files;
    return { kind: 'accepted', delivered: true, ...(first && { providerMessageId: withoutSlash(first.path) }) };
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

  #wire({ timeout: own }: StorageConfig<Own>, signal: AbortSignal): Wire {
    return new Wire(this.egress, signal, own ?? this.describe().limits.timeoutMs);
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
