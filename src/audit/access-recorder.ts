import { randomUUID } from 'node:crypto';
import { keptSubject } from '../domain/retention.js';
import { type Instant, isOrganization } from '../domain/vocabulary.js';
import { type EventCodec, type Subject, subjectOfOrganization } from '../event-store/codec.js';
import type { EventStore, NewEvent } from '../event-store/event-store.js';
import { ACCESS_RECORDED } from './entry.js';

/** See `Access` in src/security/access-log.ts. */
export interface RecordedAccess {
  readonly actor?: string;
  readonly action: string;
  readonly outcome: 'granted' | 'denied';
  readonly organizationId?: string;
  readonly resource?: string;
  readonly ip?: string;
  readonly reason?: string;
}

/** An access that changes nothing, so that no other event tells of it. */
export interface AccessRecorded {
  readonly type: typeof ACCESS_RECORDED;
  readonly at: Instant;
  readonly data: Omit<RecordedAccess, 'actor' | 'organizationId'> & {
    /** How many like this there were at once; 1 when it is not said. */
    readonly count?: number;
  };
}

export interface AccessRecorderLog {
  warn(fields: object, message: string): void;
}

/** The stream of what was asked for, so that it is found with what was recorded there; else what the caller said. */
function streamOf(action: string, resource: string): string {
  const [category] = /delivery|destination/i.exec(action) ?? [];
  return category === undefined ? resource : `${category.toLowerCase()}-${resource.toLowerCase()}`;
}

/** Ids of things and of API keys, and names of providers. What callers write in their place may be anybody's address. */
const ID = /^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[A-Za-z0-9]{31}|[a-z][a-z0-9-]{0,31})$/i;
const NO_ID = 'no-id';

const resourceOf = (action: string, resource: string): string =>
  // An export is recorded with parameters that were checked.
  action.startsWith('Export.') ? resource : streamOf(action, ID.test(resource) ? resource : NO_ID);

/** How long an access may wait for others, so that they share one commit of the log. */
const DELAY_MS = 100;
/** Different accesses that wait; what is beyond is only counted. */
const MOST_WAITING = 10_000;
const MOST_AT_ONCE = 1_000;
const TRY_AGAIN_MS = 1_000;
const LONGEST_TEXT = 512;

/** Callers' addresses are kept as the organization's retention says for this class. */
const RETENTION = 'access';

interface Waiting {
  readonly id: string;
  readonly access: RecordedAccess;
  readonly at: Instant;
  count: number;
}

/**
 * Puts accesses into the log, where they become entries of the audit trail as everything else does. Nobody waits for it:
 * the accesses of a tenth of a second share one append, and those that are alike one event that says how many they were.
 * What an attacker can do is bounded by that; what is beyond the bound is recorded as a number.
 */
export class AccessRecorder {
  readonly #store: EventStore;
  readonly #codec: EventCodec;
  readonly #log: AccessRecorderLog;
  /** Only this process writes to it. */
  readonly #stream = `audit-${randomUUID()}`;
  #revision: number | undefined;
  #waiting = new Map<string, Waiting>();
  #unrecorded = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #isStopping = false;

  constructor(store: EventStore, codec: EventCodec, log: AccessRecorderLog) {
    this.#store = store;
    this.#codec = codec;
    this.#log = log;
  }

  record(given: RecordedAccess): void {
    const { organizationId, ...rest } = given;
    const access = organizationId !== undefined && isOrganization(organizationId) ? given : rest;
    const key = JSON.stringify(access);
    const known = this.#waiting.get(key);
    if (known) known.count++;
    else if (this.#waiting.size >= MOST_WAITING) this.#unrecorded++;
    else this.#waiting.set(key, { id: randomUUID(), access, at: new Date().toISOString(), count: 1 });
    this.#timer ??= setTimeout(() => this.#write(), DELAY_MS);
  }

  /** What waits is recorded, unless the log takes nothing. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#write();
    while (this.#writing) await this.#writing;
  }

  #write(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#writing) return;
    this.#writing = this.#append().finally(() => {
      this.#writing = undefined;
      if (this.#waiting.size > 0 && !this.#isStopping) this.#timer ??= setTimeout(() => this.#write(), DELAY_MS);
    });
  }

  async #append(): Promise<void> {
    while (this.#waiting.size > 0 || this.#unrecorded > 0) {
      const batch = [...this.#waiting].slice(0, MOST_AT_ONCE);
      for (const [key] of batch) this.#waiting.delete(key);
      const accesses = batch.map(([, waiting]) => waiting);
      if (this.#unrecorded > 0) {
        const access = { action: 'more', outcome: 'denied', reason: 'unrecorded' } as const;
        accesses.push({ id: randomUUID(), access, at: new Date().toISOString(), count: this.#unrecorded });
        this.#unrecorded = 0;
      }
      if (!(await this.#appended(accesses))) return;
    }
  }

  /** Tries until it is done: the same events at the same place are stored once. */
  async #appended(accesses: readonly Waiting[]): Promise<boolean> {
    for (;;) {
      try {
        const keys = this.#codec.prepare(accesses.map(subjectOf));
        if (keys) await keys;
        const events = accesses.map((access) => this.#eventOf(access));
        const result = await this.#store.append(this.#stream, this.#revision ?? 'no-stream', events);
        if (!result.ok) throw new Error(`somebody else writes to ${this.#stream}`);
        this.#revision = result.revision;
        return true;
      } catch (error) {
        this.#log.warn({ err: error, accesses: accesses.length }, 'accesses could not be recorded');
        if (this.#isStopping) return false;
        await new Promise((resolve) => setTimeout(resolve, TRY_AGAIN_MS));
      }
    }
  }

  #eventOf(waiting: Waiting): NewEvent {
    const { id, access, at, count } = waiting;
    const { actor = 'unknown', organizationId = '', ...rest } = access;
    const data: AccessRecorded['data'] = {
      action: rest.action,
      outcome: rest.outcome,
      ...(rest.resource !== undefined && { resource: resourceOf(rest.action, rest.resource).slice(0, LONGEST_TEXT) }),
      ...(rest.ip !== undefined && { ip: rest.ip }),
      ...(rest.reason !== undefined && { reason: rest.reason }),
      ...(count > 1 && { count }),
    };
    const event: AccessRecorded = { type: ACCESS_RECORDED, at, data };
    const owner = { streamId: this.#stream, subject: subjectOf(waiting).subject };
    return this.#codec.encode(event, id, { organizationId, commandId: id, actor }, owner);
  }
}

/** Whose key protects the caller's address: the organization's, for one week; the installation's where there is none. */
function subjectOf({ access: { organizationId = '' }, at }: Waiting): Subject {
  return { subject: keptSubject(subjectOfOrganization(organizationId), RETENTION, new Date(at)), organizationId };
}
