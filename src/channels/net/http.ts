import type { IncomingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import type { Halting } from '../channel.js';
import { abortReason, type Rejected, rejected, unanswered } from '../outcome.js';
import { Cohort } from './cohort.js';

/** One HTTP request and what came of it. Written on undici's `dispatch`, as webhooks are the hottest path of all. */
export interface HttpRequest {
  readonly origin: string;
  readonly path: string;
  readonly method: Dispatcher.HttpMethod;
  /** Name, value, name, value … */
  readonly headers: string[];
  /** Of a stream its length is among the headers. It is destroyed when the exchange ends before it. */
  readonly body?: Buffer | string | Readable;
  /**
   * Bound on everything from here to the end of the response: queueing, connecting, waiting, reading. With none left
   * nothing is sent.
   */
  readonly timeoutMs: number;
  readonly signal: Halting;
  /** How much of the response body is kept, in bytes. Default 4,096. */
  readonly keepBytes?: number;
}

export type HttpResult = HttpAnswer | HttpSilence;

export interface HttpAnswer {
  readonly kind: 'answer';
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The beginning of it, at most `keepBytes`. */
  readonly body: string;
}

export interface HttpSilence {
  readonly kind: 'silence';
  readonly error: unknown;
  /** The request had been handed to a connection: the other side may have acted on it. */
  readonly sent: boolean;
}

const KEEP_BYTES = 4_096;
/** What is read and dropped so that the connection can be used again. Beyond it a new connection is cheaper. */
const DISCARD_BYTES = 128 * 1_024;
/** A provider's wish to wait is honoured up to this. */
const LONGEST_RETRY_AFTER_MS = 24 * 3_600_000;

/** Never rejects. */
export function exchange(dispatcher: Dispatcher, request: HttpRequest): Promise<HttpResult> {
  return new Promise((resolve) => {
    const { signal, timeoutMs, body } = request;
    if (signal.aborted || timeoutMs <= 0) {
      if (body instanceof Readable) body.destroy();
      resolve({ kind: 'silence', error: signal.aborted ? abortReason(signal) : timeIsOver(), sent: false });
      return;
    }
    outgoing.add({ dispatcher, request, exchange: new Exchange(request, resolve) });
  });
}

interface Outgoing {
  readonly dispatcher: Dispatcher;
  readonly request: HttpRequest;
  readonly exchange: Exchange;
}

const outgoing = new Cohort<Outgoing>(queueMicrotask, (all) => {
  for (const { dispatcher, request, exchange } of all) {
    const { origin, path, method, headers, body = null } = request;
    try {
      // undici's own timers are off: the one of the exchange bounds all phases together.
      dispatcher.dispatch({ origin, path, method, headers, body, headersTimeout: 0, bodyTimeout: 0 }, exchange);
    } catch (error) {
      exchange.fail(error); // the dispatcher was closed meanwhile
    }
  }
});

/**
 * The states of an exchange: waiting for a connection → sent → answered (status line read) → done.
 * Once the status is known it is the result, whatever happens to the rest of the response.
 */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #request: HttpRequest;
  readonly #resolve: (result: HttpResult) => void;
  readonly #timer: NodeJS.Timeout;
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #headers: IncomingHttpHeaders = {};
  #kept: Buffer | undefined;
  #read = 0;
  #done = false;

  constructor(request: HttpRequest, resolve: (result: HttpResult) => void) {
    this.#request = request;
    this.#resolve = resolve;
    this.#timer = setTimeout(() => this.#stop(timeIsOver()), request.timeoutMs);
    request.signal.addEventListener('abort', this.#onAbort);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    // Given up while waiting for a connection: undici asks once more before it writes anything.
    if (this.#done) controller.abort(new DOMException('given up', 'AbortError'));
    else this.#controller = controller;
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: IncomingHttpHeaders): void {
    if (status < 200) return; // 103 Early Hints: the answer is still to come
    this.#status = status;
    this.#headers = headers;
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const room = (this.#request.keepBytes ?? KEEP_BYTES) - (this.#kept?.length ?? 0);
    if (room > 0) {
      const part = chunk.subarray(0, room);
      this.#kept = this.#kept ? Buffer.concat([this.#kept, part]) : Buffer.from(part);
    }
    this.#read += chunk.length;
    if (this.#read > (this.#request.keepBytes ?? KEEP_BYTES) + DISCARD_BYTES) {
      this.#finish(undefined);
      controller.abort(new DOMException('the response is too long', 'AbortError'));
    }
  }

  onResponseEnd(): void {
    this.#finish(undefined);
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    this.#finish(error);
  }

  /** No request was made. */
  fail(error: unknown): void {
    this.#finish(error);
  }

  readonly #onAbort = (): void => this.#stop(abortReason(this.#request.signal));

  #stop(reason: Error): void {
    this.#finish(reason);
    this.#controller?.abort(reason);
  }

  #finish(error: unknown): void {
    if (this.#done) return;
    this.#done = true;
    clearTimeout(this.#timer);
    this.#request.signal.removeEventListener('abort', this.#onAbort);
    const { body } = this.#request;
    if (body instanceof Readable) body.destroy();
    if (this.#status === 0) {
      this.#resolve({ kind: 'silence', error, sent: this.#controller !== undefined });
    } else {
      const body = this.#kept?.toString('utf8') ?? '';
      const answer = { kind: 'answer', status: this.#status, headers: this.#headers, body } as const;
      answered.add({ resolve: this.#resolve, answer });
    }
  }
}

const timeIsOver = (): Error => new DOMException('the time for the request is over', 'TimeoutError');

interface Answered {
  readonly resolve: (result: HttpResult) => void;
  readonly answer: HttpAnswer;
}

const answered = new Cohort<Answered>(setImmediate, (all) => {
  for (const { resolve, answer } of all) resolve(answer);
});

/** That somebody is there, whatever they say. @returns why nobody is, undefined when somebody answers */
export async function nobodyAt(
  dispatcher: Dispatcher,
  { origin, host }: URL,
  call: Pick<HttpRequest, 'timeoutMs' | 'signal'> & { readonly headers?: string[] },
): Promise<Rejected | undefined> {
  const result = await exchange(dispatcher, { origin, path: '/', method: 'HEAD', headers: [], ...call });
  return result.kind === 'answer' ? undefined : unanswered(result.error, host, false);
}

/** The categories of HTTP statuses that are not success, where a provider's own codes say nothing better (RFC 9110). */
export function categoryOf(status: number): ErrorCategory {
  if (status === 429) return 'RATE_LIMIT';
  if (status === 401 || status === 403 || status === 407) return 'AUTHENTICATION';
  if (status === 400 || status === 413 || status === 422) return 'VALIDATION';
  if (status >= 500 || status === 408 || status === 425) return 'TEMPORARY';
  return 'PERMANENT'; // redirects too: whoever moved has to be told to us by a person
}

/** @param category where the provider's own codes say something better than the status */
export function refusedByHttp(
  answer: HttpAnswer,
  detail: string,
  now: Date,
  category: ErrorCategory = categoryOf(answer.status),
): Rejected {
  const mayComeBack = category === 'RATE_LIMIT' || category === 'TEMPORARY';
  const wait = mayComeBack ? retryAfterMs(answer.headers['retry-after'], now) : undefined;
  return rejected(category, `HTTP_${answer.status}`, detail, wait === undefined ? {} : { retryAfterMs: wait });
}

/** Retry-After (RFC 9110, 10.2.3), seconds or an HTTP date, in milliseconds from `now`; at most 24 hours. */
export function retryAfterMs(header: string | string[] | undefined, now: Date): number | undefined {
  const value = (Array.isArray(header) ? header[0] : header)?.trim() ?? '';
  if (/^\d+$/.test(value)) return Math.min(Number(value) * 1_000, LONGEST_RETRY_AFTER_MS);
  // Only dates in GMT: Date.parse on its own takes "-5" for a date.
  const date = value.endsWith('GMT') ? Date.parse(value) : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.min(Math.max(date - now.getTime(), 0), LONGEST_RETRY_AFTER_MS);
}
