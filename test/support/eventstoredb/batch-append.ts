import { type ServerDuplexStream, status } from '@grpc/grpc-js';
import { checkProposed, sizeOf } from './append.js';
import { fail, signalOf } from './calls.js';
import { asRpcError, invalidArgument, unavailable } from './errors.js';
import { type BatchAppendRequest, type Proposed, type StreamTarget } from './requests.js';
import { type BatchFailure, encodeBatchAppended } from './responses.js';
import type { Service } from './service.js';
import type { StoreOutcome } from './store.js';
import type { User } from './users.js';

/** One append, whose parts have begun to come. */
interface Batch {
  readonly id: string;
  readonly target: StreamTarget;
  readonly events: Proposed[];
  size: number;
  isAnswered: boolean;
  timer: NodeJS.Timeout | undefined;
}

type Answer = Parameters<typeof encodeBatchAppended>[2];

/** While appends of one call with so many bytes are on their way to the disk, no more of it is read. */
const MAX_PENDING_BYTES = 128 * 1024 * 1024;
/** The longest a timer can be set for. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * Streams.BatchAppend: any number of appends at once over one call, each answered when it is done, in any order. All
 * that came together goes into one commit.
 */
export class BatchAppendCall {
  readonly #service: Service;
  readonly #call: ServerDuplexStream<BatchAppendRequest, Buffer>;
  readonly #user: User | undefined;
  /** Appends of which parts are still to come. */
  readonly #begun = new Map<string, Batch>();
  #pendingBytes = 0;
  #appending = 0;
  #hasEnded = false;

  /** @throws RpcError UNAUTHENTICATED */
  constructor(service: Service, call: ServerDuplexStream<BatchAppendRequest, Buffer>) {
    this.#service = service;
    this.#call = call;
    this.#user = service.users.authenticated(call.metadata);
    call.on('data', (request: BatchAppendRequest) => this.#take(request));
    call.on('drain', () => this.#goOn());
    call.on('end', () => {
      this.#hasEnded = true;
      this.#endWhenDone();
    });
    signalOf(call, service.stopping).addEventListener('abort', () => {
      for (const { timer } of this.#begun.values()) clearTimeout(timer);
      this.#begun.clear();
      this.#endWhenDone();
    });
  }

  #take({ correlationId, options, proposed, isFinal }: BatchAppendRequest): void {
    if (this.#service.stopping.aborted) return;
    const batch = this.#begun.get(correlationId) ?? this.#begin(correlationId, options);
    if (!batch) {
      fail(this.#call, invalidArgument('an append begins with its options'));
      return;
    }
    if (!batch.isAnswered) this.#add(batch, proposed);
    if (!isFinal) return;
    this.#begun.delete(correlationId);
    if (!batch.isAnswered) void this.#append(batch);
  }

  #begin(id: string, options: BatchAppendRequest['options']): Batch | undefined {
    if (!options) return undefined;
    const batch = { id, target: options, events: [], size: 0, isAnswered: false, timer: undefined };
    this.#begun.set(id, batch);
    this.#watch(batch, options.deadlineMs);
    return batch;
  }

  #add(batch: Batch, proposed: readonly Proposed[]): void {
    const { maxAppendSize } = this.#service;
    for (const event of proposed) {
      batch.events.push(event);
      batch.size += sizeOf(event);
    }
    if (batch.size > maxAppendSize) this.#answer(batch, tooLarge(maxAppendSize));
  }

  async #append(batch: Batch): Promise<void> {
    const { target, events, size } = batch;
    const { store, users } = this.#service;
    this.#pendingBytes += size;
    this.#appending++;
    if (this.#pendingBytes > MAX_PENDING_BYTES) this.#call.pause();
    try {
      for (const event of events) checkProposed(event);
      await users.check(this.#user, target.stream, 'write');
      this.#answer(batch, answerTo(await store.append(target.stream, target.expected, events)));
    } catch (error) {
      this.#answer(batch, failureOf(error));
    } finally {
      this.#pendingBytes -= size;
      this.#appending--;
      this.#goOn();
      this.#endWhenDone();
    }
  }

  #watch(batch: Batch, deadlineMs = Infinity): void {
    const left = deadlineMs - Date.now();
    const expire = () => this.#answer(batch, TIMEOUT);
    if (left <= 0) expire();
    else if (left <= MAX_TIMER_MS) batch.timer = setTimeout(expire, left);
  }

  /** The first answer is the only one: a client knows an append no longer that it has an answer to. */
  #answer(batch: Batch, answer: Answer): void {
    clearTimeout(batch.timer);
    if (batch.isAnswered) return;
    batch.isAnswered = true;
    if (this.#call.cancelled || this.#call.writableEnded) return;
    // A caller that does not take its answers is not listened to.
    if (!this.#call.write(encodeBatchAppended(batch.id, batch.target, answer))) this.#call.pause();
  }

  #goOn(): void {
    if (this.#pendingBytes <= MAX_PENDING_BYTES && !this.#call.writableNeedDrain) this.#call.resume();
  }

  #endWhenDone(): void {
    if (this.#appending > 0 || this.#call.cancelled) return;
    if (this.#hasEnded) this.#call.end();
    else if (this.#service.stopping.aborted) fail(this.#call, unavailable());
  }
}

const TIMEOUT: BatchFailure = { code: status.DEADLINE_EXCEEDED, message: 'Timeout', details: { kind: 'timeout' } };

const tooLarge = (maxAppendSize: number): BatchFailure => ({
  code: status.INVALID_ARGUMENT,
  message: `Maximum Append Size of ${maxAppendSize} Exceeded.`,
  details: { kind: 'maximum-append-size-exceeded', maxAppendSize },
});

function answerTo(outcome: StoreOutcome): Answer {
  if (outcome.kind === 'appended') return outcome;
  const code = status.FAILED_PRECONDITION;
  if (outcome.kind === 'stream-deleted') return { code, message: 'Stream Deleted', details: outcome };
  return { code, message: 'Wrong Expected Version', details: outcome };
}

function failureOf(error: unknown): BatchFailure {
  const { code, details: message } = asRpcError(error);
  if (code === status.PERMISSION_DENIED) return { code, message, details: { kind: 'access-denied' } };
  if (code === status.INVALID_ARGUMENT) return { code, message, details: { kind: 'bad-request' } };
  return { code, message, details: { kind: 'unknown' } };
}
