import { z } from 'zod';
import type {
  ChannelAdapter,
  ChannelDescription,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../../src/channels/channel.js';
import { checked, problemsOf, timeout } from '../../src/channels/config.js';
import type { Egress } from '../../src/channels/egress.js';
import { exchange, refusedByHttp } from '../../src/channels/http.js';
import { presentable, rejected, unanswered } from '../../src/channels/outcome.js';
import type { FieldProblem, JsonObject } from '../../src/domain/vocabulary.js';

const DESCRIPTION: ChannelDescription = {
  channel: 'API',
  provider: 'pager',
  configKey: 'pager',
  secretFields: ['token'],
  idempotency: 'keyed',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  limits: { maxBytes: 1_000, timeoutMs: 10_000 },
};

interface PagerConfig {
  readonly url: string;
  readonly token: string;
  readonly timeout?: number;
}

/** Pages somebody by an imaginary service: POST the text, with a token and a key for repetitions. */
export class PagerAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly schema: z.ZodType;

  constructor(egress: Egress) {
    this.#egress = egress;
    this.schema = z.strictObject({
      url: checked((url) => egress.problemWithUrl(url)).describe('Where pages are sent to.'),
      token: z.string().min(1).describe('Lets us in.').meta({ secret: true }),
      timeout: timeout(DESCRIPTION.limits.timeoutMs),
    });
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, url: address };
  }

  validateAddress(address: string): string | undefined {
    return this.#egress.problemWithUrl(address);
  }

  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }) {
    const startedAt = performance.now();
    const result = await this.#call(config as unknown as PagerConfig, 'HEAD', signal);
    const latencyMs = performance.now() - startedAt;
    if (result.kind === 'answer') return { ok: true, latencyMs, problems: [] };
    return {
      ok: false,
      latencyMs,
      problems: [{ path: 'url', problem: unanswered(result.error, 'the pager', false).detail }],
    };
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as PagerConfig;
    const text = message.content.text ?? '';
    const { maxBytes } = DESCRIPTION.limits;
    if (Buffer.byteLength(text) > maxBytes) return rejected('VALIDATION', 'TOO_LARGE', `at most ${maxBytes} bytes fit`);
    const result = await this.#call(config, 'POST', signal, { text, key: attemptKey });
    if (result.kind === 'silence') return unanswered(result.error, 'the pager', result.sent);
    if (result.status === 200) return { kind: 'accepted', delivered: false };
    const words = presentable(result.body, message, [config.token]);
    return refusedByHttp(result, `the pager answered ${result.status} ${words}`, now);
  }

  #call({ url, token, timeout: own }: PagerConfig, method: 'HEAD' | 'POST', signal: AbortSignal, body?: object) {
    const { origin, pathname } = new URL(url);
    return exchange(this.#egress.dispatcher, {
      origin,
      path: pathname,
      method,
      headers: ['authorization', `Bearer ${token}`, 'content-type', 'application/json'],
      ...(body && { body: JSON.stringify(body) }),
      timeoutMs: own ?? DESCRIPTION.limits.timeoutMs,
      signal,
    });
  }
}
