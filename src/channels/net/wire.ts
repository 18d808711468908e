import type { IncomingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Halting } from '../channel.js';
import type { Egress } from './egress.js';
import { exchange, type HttpResult } from './http.js';
import type { Way } from './ways-out.js';

/** What an SDK asks its HTTP client for, whatever the SDK. */
export interface WireRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of a stream its length is among the headers. */
  readonly body?: Buffer | string | Readable;
}

export interface WireAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers are lists of objects and reasons of refusals, never the objects. */
const KEEP_BYTES = 4 * 1_024 * 1_024;
/** Made by the HTTP client. */
const OWN_HEADERS = ['host', 'connection', 'expect'];
/** Of an upload in parts: there is more to come (https://cloud.google.com/storage/docs/resumable-uploads). */
const GO_ON = 308;

/**
 * The way out for a vendor's SDK during one call: every request goes through the guard, and what came of the last one
 * is remembered, as SDKs keep neither headers nor the causes of network errors.
 */
export class Wire {
  readonly #egress: Egress;
  readonly #way: Way;
  readonly #halt: Halting;
  readonly #untilMs: number;
  last: HttpResult | undefined;
  /** Something was sent that may have taken effect. */
  hasSent = false;

  /**
   * @param way of the configuration that the call is for
   * @param timeoutMs from now on, for all of its requests together
   */
  constructor(egress: Egress, way: Way, halt: Halting, timeoutMs: number) {
    this.#egress = egress;
    this.#way = way;
    this.#halt = halt;
    this.#untilMs = performance.now() + timeoutMs;
  }

  /** Rejects when nobody answers; any answer resolves. */
  async request({ url, method, headers, body }: WireRequest): Promise<WireAnswer> {
    const own = body instanceof Readable ? OWN_HEADERS : [...OWN_HEADERS, 'content-length'];
    const isBlank = (name: string) => own.includes(name.toLowerCase());
    const result = await exchange(this.#egress.dispatcher(this.#way), {
      origin: url.origin,
      path: url.pathname + url.search,
      method: method.toUpperCase() as Dispatcher.HttpMethod,
      headers: Object.entries(headers)
        .filter(([name]) => !isBlank(name))
        .flat(),
      ...(body !== undefined && { body }),
      timeoutMs: this.#untilMs - performance.now(),
      signal: this.#halt,
      keepBytes: KEEP_BYTES,
    });
    // Of several requests at once, the first that fails is the one that counts.
    if (!this.last || (this.last.kind === 'answer' && (this.last.status < 300 || this.last.status === GO_ON)))
      this.last = result;
    if (result.kind === 'silence') {
      this.hasSent ||= result.sent && method !== 'GET' && method !== 'HEAD';
      throw result.error;
    }
    return result;
  }
}
