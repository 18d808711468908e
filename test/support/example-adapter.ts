import { z } from 'zod';
import { Adapter, type ConfigOf, type Declaration, inField, problemAt } from '../../src/channels/adapter.js';
import type { OutgoingMessage, SendOptions } from '../../src/channels/channel.js';
import { checked } from '../../src/channels/config.js';
import { outbound } from '../../src/channels/net/connection-config.js';
import type { Egress } from '../../src/channels/net/egress.js';
import { exchange, nobodyAt, refusedByHttp } from '../../src/channels/net/http.js';
import { accepted, presentable, rejected, unanswered } from '../../src/channels/outcome.js';

/** Pages somebody by an imaginary service: POST the text, with a token and a key for repetitions. */
const DECLARATION: Declaration = {
  channel: 'API',
  provider: 'pager',
  configKey: 'pager',
  idempotency: 'keyed',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: 'Asks the host of the URL with HEAD: that anybody answers.',
  limits: { maxBytes: 1_000, timeoutMs: 10_000 },
};

const schema = (egress: Egress) =>
  z.strictObject({
    url: checked((url) => egress.problemWithUrl(url)).describe('Where pages are sent to.'),
    token: z.string().min(1).describe('Lets us in.').meta({ secret: true }),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
  });

type PagerConfig = ConfigOf<typeof schema>;

export class PagerAdapter extends Adapter<PagerConfig> {
  readonly #egress: Egress;

  constructor(egress: Egress) {
    const address = inField('url', (url) => egress.problemWithUrl(url));
    super(DECLARATION, schema(egress), address);
    this.#egress = egress;
  }

  protected async probe(config: PagerConfig, signal: AbortSignal) {
    const silence = await nobodyAt(this.#egress.dispatcher(config), new URL(config.url), {
      timeoutMs: timeoutOf(config),
      signal,
    });
    return silence && problemAt('url', silence);
  }

  protected async deliver(config: PagerConfig, message: OutgoingMessage, { attemptKey, now, signal }: SendOptions) {
    const text = message.content.text ?? '';
    const { maxBytes } = DECLARATION.limits;
    if (Buffer.byteLength(text) > maxBytes) return rejected('VALIDATION', 'TOO_LARGE', `at most ${maxBytes} bytes fit`);
    const { origin, pathname } = new URL(config.url);
    const result = await exchange(this.#egress.dispatcher(config), {
      origin,
      path: pathname,
      method: 'POST',
      headers: ['authorization', `Bearer ${config.token}`, 'content-type', 'application/json'],
      body: JSON.stringify({ text, key: attemptKey }),
      timeoutMs: timeoutOf(config),
      signal,
    });
    if (result.kind === 'silence') return unanswered(result.error, 'the pager', result.sent);
    if (result.status === 200) return accepted();
    const words = presentable(result.body, message, [config.token]);
    return refusedByHttp(result, `the pager answered ${result.status} ${words}`, now);
  }
}

const timeoutOf = ({ timeout = DECLARATION.limits.timeoutMs }: PagerConfig): number => timeout;
