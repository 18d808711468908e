import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import type { Egress } from './egress.js';
import { exchange, type HttpResult } from './http.js';

/** What an SDK asks its HTTP client for, whatever the SDK. */
export interface WireRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

export interface WireAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Answers are lists of objects and reasons of refusals, never the objects. */
const KEEP_BYTES = 4 * 1_024 * 1_024;

/**
 * The way out for a vendor's SDK during one call: every request goes through the guard, and what came of the last one
 * is remembered, as SDKs keep neither headers nor the causes of network errors.
 */
export class Wire {
  readonly #egress: Egress;
  readonly #deadline: AbortSignal;
  readonly #timeoutMs: number;
  last: HttpResult | undefined;
  /** Something was sent that may have taken effect. */
  hasSent = false;

  constructor(egress: Egress, signal: AbortSignal, timeoutMs: number) {
    this.#egress = egress;
    this.#timeoutMs = timeoutMs;
    this.#deadline = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  }

  /** Rejects when nobody answers; any answer resolves. */
  async request({ url, method, headers, body }: WireRequest): Promise<WireAnswer> {
    const isBlank = (name: string) => ['host', 'content-length', 'connection', 'expect'].includes(name.toLowerCase());
    const result = await exchange(this.#egress.dispatcher, {
      origin: url.origin,
      path: url.pathname + url.search,
      method: method.toUpperCase() as Dispatcher.HttpMethod,
      headers: Object.entries(headers)
        .filter(([name]) => !isBlank(name))
        .flat(),
      ...(body !== undefined && { body }),
      timeoutMs: this.#timeoutMs,
      signal: this.#deadline,
      keepBytes: KEEP_BYTES,
    });
    // Of several requests at once, the first that fails is the one that counts.
    if (!this.last || (this.last.kind === 'answer' && this.last.status < 300)) this.last = result;
    if (result.kind === 'silence') {
      this.hasSent ||= result.sent && method !== 'GET' && method !== 'HEAD';
      throw result.error;
    }
    return result;
  }
}
