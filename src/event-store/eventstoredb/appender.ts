import { randomUUID } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import {
  type AppendAnswer,
  type AppendTarget,
  appendRequests,
  MAX_REQUEST_BYTES,
  type Proposal,
} from './append-messages.js';
import type { AppendCall, Connection, Node } from './connection.js';
import { NoAnswer, Silence } from './errors.js';

/** Appends that wait for their answer at most, in bytes; further ones wait until they may be sent. */
const MAX_UNDER_WAY_BYTES = 32 * 1024 * 1024;

/**
 * Appends by BatchAppend: one call carries all, one after the other, and the answers come as the server has them.
 * What throws leaves unknown whether it was stored: the call broke, or no answer came in time.
 */
export class Appender {
  readonly #connection: Connection;
  readonly #answerWithinMs: number;
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = [];
  #underWayBytes = 0;
  #call: BatchAppend | undefined;
  #opening: Promise<BatchAppend> | undefined;

  constructor(connection: Connection, answerWithinMs: number) {
    this.#connection = connection;
    this.#answerWithinMs = answerWithinMs;
  }

  async append(target: AppendTarget, proposals: readonly Proposal[], bytes: number): Promise<AppendAnswer> {
    if (this.#isFull(bytes) || this.#waiting.length > 0)
      await new Promise<void>((start) => {
        this.#waiting.push({ bytes, start });
      });
    else this.#underWayBytes += bytes;
    try {
      if (bytes > MAX_REQUEST_BYTES) return await this.#appendAlone(target, proposals);
      // Without a turn of the event loop between, so that what is appended first is also sent first.
      const call = this.#call?.isUsable ? this.#call : await this.#open();
      return await call.append(target, proposals);
    } finally {
      this.#underWayBytes -= bytes;
      this.#startWaiting();
    }
  }

  /** Ends the call that is kept for further appends. */
  close(): void {
    this.#call?.end();
  }

  #isFull(bytes: number): boolean {
    return this.#underWayBytes > 0 && this.#underWayBytes + bytes > MAX_UNDER_WAY_BYTES;
  }

  #startWaiting(): void {
    for (let first = this.#waiting[0]; first && !this.#isFull(first.bytes); first = this.#waiting[0]) {
      this.#waiting.shift();
      this.#underWayBytes += first.bytes;
      first.start();
    }
  }

  async #open(): Promise<BatchAppend> {
    this.#opening ??= this.#newCall().finally(() => {
      this.#opening = undefined;
    });
    const call = await this.#opening;
    // What waits for its answer on the one before may still get it.
    if (this.#call !== call) this.#call?.end();
    this.#call = call;
    return call;
  }

  async #newCall(): Promise<BatchAppend> {
    return new BatchAppend(this.#connection, await this.#connection.find(), this.#answerWithinMs);
  }

  /** A server that finds a message too large ends the call that it came by; other appends must not be on it. */
  async #appendAlone(target: AppendTarget, proposals: readonly Proposal[]): Promise<AppendAnswer> {
    const call = await this.#newCall();
    try {
      return await call.append(target, proposals);
    } catch (error) {
      const { code, message } = error as { code?: unknown; message: string };
      if (code !== status.RESOURCE_EXHAUSTED) throw error;
      return { kind: 'refused', problem: `the append is too large for the event store (${message})` };
    } finally {
      call.end();
    }
  }
}

interface Pending {
  readonly resolve: (answer: AppendAnswer) => void;
  readonly reject: (error: unknown) => void;
  readonly deadline: number;
}

/** One BatchAppend call and the appends that wait for their answer on it, the oldest first. */
class BatchAppend {
  readonly #connection: Connection;
  readonly #node: Node;
  readonly #call: AppendCall;
  readonly #answerWithinMs: number;
  readonly #pending = new Map<string, Pending>();
  /** Correlation ids are this and a counter, so that none is used twice. */
  readonly #prefix = randomUUID().slice(0, 24);
  #count = 0;
  #watch: NodeJS.Timeout | undefined;
  #end: unknown;

  constructor(connection: Connection, node: Node, answerWithinMs: number) {
    this.#connection = connection;
    this.#node = node;
    this.#answerWithinMs = answerWithinMs;
    this.#call = connection.batchAppend(node);
    this.#call.on('data', ({ correlationId, answer }) => {
      this.#pending.get(correlationId)?.resolve(answer);
      this.#pending.delete(correlationId);
    });
    this.#call.on('error', (error) => this.#fail(error));
    this.#call.on('end', () => this.#fail(new NoAnswer('the event store ended the call')));
  }

  /** Whether it is open, and goes to the node that calls go to now. */
  get isUsable(): boolean {
    return this.#end === undefined && this.#node === this.#connection.node;
  }

  append(target: AppendTarget, proposals: readonly Proposal[]): Promise<AppendAnswer> {
    return new Promise((resolve, reject) => {
      if (this.#end !== undefined) {
        reject(this.#end);
        return;
      }
      const correlationId = `${this.#prefix}${(this.#count++).toString(16).padStart(12, '0')}`;
      this.#pending.set(correlationId, { resolve, reject, deadline: performance.now() + this.#answerWithinMs });
      for (const request of appendRequests(correlationId, target, proposals)) this.#call.write(request);
      this.#watch ??= setTimeout(this.#check, this.#answerWithinMs);
    });
  }

  /** No more appends; the answers to those under way may still come. */
  end(): void {
    this.#end ??= new NoAnswer('the call was ended');
    this.#call.end();
  }

  /** Looks at the oldest append; a connection that is silent for it is silent for all. */
  readonly #check = (): void => {
    this.#watch = undefined;
    const [oldest] = this.#pending.values();
    if (!oldest) return;
    const left = oldest.deadline - performance.now();
    if (left <= 0) this.#fail(new Silence(`the event store has not answered within ${this.#answerWithinMs} ms`));
    else this.#watch = setTimeout(this.#check, left);
  };

  #fail(error: unknown): void {
    // That a call is over which was ended here says nothing of the connection.
    if (this.#end === undefined || this.#pending.size > 0) this.#connection.failed(this.#node, error);
    this.#end ??= error;
    clearTimeout(this.#watch);
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#call.cancel();
  }
}
