import { setTimeout as delay } from 'node:timers/promises';
import { checkAppend, checkSizes } from '../append-limits.js';
import {
  AppendRefused,
  type AppendResult,
  type EventStore,
  type ExpectedRevision,
  LogUnavailable,
  type NewEvent,
  type RecordedEvent,
  type StreamAppend,
} from '../event-store.js';
import { type AppendAnswer, type Proposal, propose } from './append-messages.js';
import { Appender } from './appender.js';
import { isTransient, NoAnswer } from './errors.js';
import { type EventStoreDbOptions, EventStoreDbReader } from './event-store-db-reader.js';
import { SYSTEM, streamRequest } from './read-messages.js';
import { pause } from './waiting.js';

/** An append on its way. */
interface Appending {
  readonly streamId: string;
  readonly expected: number | 'no-stream';
  readonly proposals: readonly Proposal[];
  readonly bytes: number;
  /** The greatest position known before it was sent for the first time. */
  readonly seen: bigint;
}

/**
 * An EventStoreDB as the event log of a cluster.
 *
 * Each append is atomic by itself; `appendMany` is nothing but many of them at once. Every append goes to an exact
 * revision, for which the server finds the same events stored already however long ago that was. So when an outcome is
 * unknown (no answer in time, a broken connection, another leader) the stream is read for the events' ids: they are there,
 * or the append is sent again, which can store them only once. When that does not succeed in time either it throws, and
 * the outcome stays unknown.
 *
 * The server answers a repeated append like a new one. It is told from that by its position, which is then one that was
 * known here before. What cannot be known is whether another process stored the very same events an instant ago, whose
 * position was never seen here: such an answer says `idempotent: false`.
 */
export class EventStoreDb extends EventStoreDbReader implements EventStore {
  readonly #appender: Appender;
  #isClosing = false;
  #underWay = 0;
  #settled = () => {};

  /** As the reader's. */
  static override async connect(url: string, options: EventStoreDbOptions = {}): Promise<EventStoreDb> {
    return await new EventStoreDb(url, options).connected();
  }

  private constructor(url: string, options: EventStoreDbOptions) {
    super(url, options);
    this.#appender = new Appender(this.connection, this.options.answerWithinMs);
  }

  async append(streamId: string, expected: ExpectedRevision, events: readonly NewEvent[]): Promise<AppendResult> {
    if (this.#isClosing) throw new LogUnavailable('the event store is closed');
    checkAppend(streamId, events);
    if (streamId.startsWith(SYSTEM)) throw new AppendRefused(`${streamId}: such names are the event store's own`);
    const proposals = events.map(propose);
    let bytes = 0;
    for (const proposal of proposals) {
      bytes += proposal.bytes;
      checkSizes(proposal.bytes, bytes);
    }
    this.#underWay++;
    try {
      const appending = { streamId, proposals, bytes, seen: this.seen };
      if (expected === 'stream-exists') return await this.#extend(appending);
      return await this.#append({ ...appending, expected });
    } finally {
      if (--this.#underWay === 0) this.#settled();
    }
  }

  /** Nothing but many appends at once: each is atomic by itself, and no two of them together. */
  async appendMany(appends: readonly StreamAppend[]): Promise<AppendResult[]> {
    return await Promise.all(appends.map(({ streamId, expected, events }) => this.append(streamId, expected, events)));
  }

  /** Waits for the appends under way, at most as long as for one answer. */
  override async close(): Promise<void> {
    this.#isClosing = true;
    if (this.#underWay > 0) {
      const enough = new AbortController();
      this.#settled = () => enough.abort();
      await delay(this.options.answerWithinMs, undefined, { signal: enough.signal }).catch(() => undefined);
    }
    this.#appender.close();
    await super.close();
  }

  /**
   * Appends to the end of a stream, wherever that is. The server would take it as it is, but could not tell a repetition
   * for ever; at the revision that the end is found to have it can.
   */
  async #extend(appending: Omit<Appending, 'expected'>): Promise<AppendResult> {
    const { streamId, proposals } = appending;
    const range = { limit: proposals.length, direction: 'backwards' } as const;
    for (const giveUpAt = performance.now() + this.options.giveUpAfterMs; performance.now() < giveUpAt; ) {
      const newest = (await this.readStream(streamId, range)).reverse();
      const last = newest.at(-1);
      if (!last) return { ok: false, reason: 'wrong-revision', actual: undefined };
      if (isSame(newest, proposals)) return { ...resultOf(last, appending), idempotent: true };
      const result = await this.#append({ ...appending, expected: last.revision });
      if (result.ok) return result;
    }
    throw new LogUnavailable(`${streamId}: nothing was stored, others write to it all the time`);
  }

  async #append(appending: Appending): Promise<AppendResult> {
    let answer: AppendAnswer;
    try {
      answer = await this.#appender.append(appending, appending.proposals, appending.bytes);
    } catch (error) {
      return await this.#resolve(appending, error);
    }
    if (answer.kind === 'unknown') return await this.#resolve(appending, new NoAnswer(answer.problem));
    return await this.#result(appending, answer);
  }

  async #result(appending: Appending, answer: KnownAnswer): Promise<AppendResult> {
    const { streamId, seen } = appending;
    if (answer.kind === 'refused') throw new AppendRefused(`${streamId}: ${answer.problem}`);
    if (answer.kind === 'wrong-revision') return { ok: false, reason: 'wrong-revision', actual: answer.actual };
    const { revision, position } = answer;
    if (position === undefined) {
      const stored = await this.patiently(() => this.#find(appending));
      if (!stored) throw new LogUnavailable(`${streamId}: events that the event store acknowledges are not there`);
      return { ...resultOf(stored, appending), idempotent: true };
    }
    if (position > this.seen) this.seen = position;
    return { ok: true, revision, position, idempotent: position <= seen };
  }

  /** Finds out what became of an append, or makes it become something. @throws LogUnavailable */
  async #resolve(appending: Appending, cause: unknown): Promise<AppendResult> {
    const giveUpAt = performance.now() + this.options.giveUpAfterMs;
    let problem = cause;
    for (let tries = 0; !this.closed.aborted && isTransient(problem) && performance.now() < giveUpAt; tries++) {
      await pause(tries, this.closed);
      let answer: AppendAnswer;
      try {
        const before = await this.#find(appending);
        if (before) return resultOf(before, appending);
        answer = await this.#appender.append(appending, appending.proposals, appending.bytes);
        // What was sent first may have arrived only now.
        const since = answer.kind === 'wrong-revision' ? await this.#find(appending) : undefined;
        if (since) return resultOf(since, appending);
      } catch (error) {
        problem = error;
        continue;
      }
      if (answer.kind !== 'unknown') return await this.#result(appending, answer);
      problem = new NoAnswer(answer.problem);
    }
    const { message } = problem as Error;
    throw new LogUnavailable(`whether events were stored in ${appending.streamId} is unknown: ${message}`, {
      cause: problem,
    });
  }

  /** The append's last event, when its events are where they should be. Looks once. */
  async #find({ streamId, expected, proposals }: Appending): Promise<RecordedEvent | undefined> {
    const from = expected === 'no-stream' ? 0 : expected + 1;
    const there = await this.reads.stream(streamRequest(streamId, { from, limit: proposals.length }));
    return isSame(there, proposals) ? there.at(-1) : undefined;
  }
}

type KnownAnswer = Exclude<AppendAnswer, { kind: 'unknown' }>;

const isSame = (there: readonly RecordedEvent[], proposals: readonly Proposal[]): boolean =>
  there.length === proposals.length && there.every(({ id }, index) => id === proposals[index]?.id);

/** What was stored since the append was sent was stored by it, even though nobody said so. */
const resultOf = ({ revision, position }: RecordedEvent, { seen }: Pick<Appending, 'seen'>) =>
  ({ ok: true, revision, position, idempotent: position <= seen }) as const;
