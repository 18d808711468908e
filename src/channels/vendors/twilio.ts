import type twilio from 'twilio';
import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import { Adapter, type Declaration, inField } from '../adapter.js';
import type { OutgoingMessage } from '../channel.js';
import { endpoint } from '../config.js';
import { problemWithNumber } from '../messages/sms.js';
import type { Outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { categoryOf, exchange, type HttpResult, refusedByHttp } from '../net/http.js';
import { presentable, type Rejected, unanswered } from '../outcome.js';

/** What text messages and calls through Twilio have in common. Its SDK writes the requests; they leave through the guard. */

/** Messages or calls read when one is looked for. They are of one recipient. */
export const LOOKED_THROUGH = 50;
/** What Twilio's clock and ours may differ by; its times are whole seconds. */
const CLOCK_MARGIN_MS = 5_000;

export interface TwilioAccount extends Outbound {
  readonly accountSid: string;
  readonly authToken: string;
  readonly endpoint?: string;
}

/** For the schema of an adapter to spread into its own. */
export const twilioFields = {
  accountSid: z
    .string()
    .regex(/^AC[0-9a-fA-F]{32}$/, 'must be AC and 32 hexadecimal digits')
    .describe('The account.'),
  authToken: z.string().min(1).max(200).describe('Its token.').meta({ secret: true }),
};

export const twilioEndpoint = (egress: Egress) => endpoint(egress, 'https://api.twilio.com');

export interface TwilioCall<T> {
  readonly value: T | undefined;
  readonly error: unknown;
  /** What went over the wire, missing when nothing did: the SDK's errors keep neither headers nor network causes. */
  readonly outcome: HttpResult | undefined;
}

/** What an adapter of one of Twilio's services starts from. */
export abstract class TwilioService<Config extends TwilioAccount> extends Adapter<Config> {
  readonly #egress: Egress;

  constructor(egress: Egress, declaration: Declaration, schema: z.ZodType) {
    super(declaration, schema, inField('to', problemWithNumber));
    this.#egress = egress;
  }

  /** Reads the account, which needs the same credentials as sending. */
  protected async probe(account: Config, signal: AbortSignal) {
    const { outcome } = await this.call(account, signal, ({ api }) => api.v2010.accounts(account.accountSid).fetch());
    if (outcome?.kind !== 'answer') return { path: 'endpoint', problem: 'Twilio did not answer' };
    return outcome.status === 200 ? undefined : { path: 'authToken', problem: `Twilio answered ${outcome.status}` };
  }

  /** One call of the SDK, with the exchange beneath it. Nothing is repeated. */
  protected async call<T>(
    account: Config,
    signal: AbortSignal,
    call: (client: twilio.Twilio) => Promise<T>,
  ): Promise<TwilioCall<T>> {
    let outcome: HttpResult | undefined;
    const httpClient = {
      request: async (request: SdkRequest) => {
        const timeoutMs = this.timeoutOf(account);
        outcome = await exchange(this.#egress.dispatcher(account), {
          ...requestOf(request, account),
          timeoutMs,
          signal,
        });
        if (outcome.kind === 'silence') throw outcome.error;
        return { statusCode: outcome.status, body: outcome.body, headers: outcome.headers };
      },
    };
    // Loaded when the first message is sent: it takes 150 ms, which most installations never need.
    const { Twilio } = (await import('twilio')).default;
    const client = new Twilio(account.accountSid, account.authToken, {
      httpClient: httpClient as unknown as NonNullable<twilio.Twilio['httpClient']>,
      lazyLoading: true,
      env: {}, // TWILIO_EDGE and TWILIO_REGION of the server are not the customer's
    });
    const settled = await call(client).then(
      (value) => ({ value, error: undefined }),
      (error: unknown) => ({ value: undefined, error }),
    );
    return { ...settled, outcome };
  }

  /**
   * Of what Twilio lists, the newest first, what was made while an attempt was under way, and whether nothing of it can
   * be missing.
   */
  protected madeDuring<T extends { readonly dateCreated: Date }>(listed: readonly T[], account: Config, since: Date) {
    const firstMs = since.getTime() - CLOCK_MARGIN_MS;
    const lastMs = since.getTime() + this.timeoutOf(account) + CLOCK_MARGIN_MS;
    const isMade = ({ dateCreated }: T) => dateCreated.getTime() >= firstMs && dateCreated.getTime() <= lastMs;
    return {
      made: listed.filter(isMade),
      isWhole: listed.length < LOOKED_THROUGH || listed.some(({ dateCreated }) => dateCreated.getTime() < firstMs),
    };
  }

  protected timeoutOf({ timeout }: Config): number {
    return timeout ?? this.describe().limits.timeoutMs;
  }
}

/**
 * The outcome of a call that failed.
 *
 * @param categories of Twilio's own codes, where they say more than the HTTP status beside them
 * @throws the error when nothing went over the wire: a programmer's
 */
export function twilioRefusal(
  { error, outcome }: TwilioCall<unknown>,
  account: TwilioAccount,
  categories: Readonly<Record<number, ErrorCategory>>,
  message: OutgoingMessage,
  now: Date,
): Rejected {
  if (!outcome) throw error;
  if (outcome.kind === 'silence') return unanswered(outcome.error, hostOf(account), outcome.sent);
  const { code, message: words = '' } = error as { code?: number; message?: string };
  const detail = `Twilio answered ${outcome.status}: ${presentable(words, message, [account.authToken])}`;
  const refusal = refusedByHttp(outcome, detail, now);
  if (!code) return refusal;
  return { ...refusal, code: `TWILIO_${code}`, category: categories[code] ?? categoryOf(outcome.status) };
}

/** Twilio gives nothing back but what is in the URL. */
export function callbackOf(
  { callbackUrl, deliveryId }: OutgoingMessage,
  attemptKey: string,
): { readonly statusCallback?: string } {
  if (callbackUrl === undefined) return {};
  return { statusCallback: `${callbackUrl}?${new URLSearchParams({ delivery: deliveryId, attempt: attemptKey })}` };
}

/** What Twilio's SDK asks of its HTTP client. */
interface SdkRequest {
  readonly method: string;
  readonly uri: string;
  readonly username: string;
  readonly password: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of the form. A list is sent as the same field several times. */
  readonly data?: Readonly<Record<string, string | readonly string[]>>;
  /** Of the query. */
  readonly params?: Readonly<Record<string, string | number>>;
}

function requestOf(sdk: SdkRequest, { endpoint: own }: TwilioAccount) {
  const url = new URL(sdk.uri);
  for (const [name, value] of Object.entries(sdk.params ?? {})) url.searchParams.set(name, String(value));
  const base = new URL(own ?? url.origin);
  const authorization = `Basic ${Buffer.from(`${sdk.username}:${sdk.password}`).toString('base64')}`;
  return {
    origin: base.origin,
    path: base.pathname.replace(/\/$/, '') + url.pathname + url.search,
    method: sdk.method.toUpperCase() as 'GET' | 'POST',
    headers: Object.entries({ ...sdk.headers, authorization }).flat(),
    ...(sdk.data && { body: formOf(sdk.data).toString() }),
    keepBytes: 1_024 * 1_024, // the whole of it, as the SDK parses it
  };
}

const formOf = (data: NonNullable<SdkRequest['data']>): URLSearchParams =>
  new URLSearchParams(
    Object.entries(data).flatMap(([name, value]) => [value].flat().map((each): [string, string] => [name, each])),
  );

function hostOf({ endpoint: own }: TwilioAccount): string {
  return own === undefined ? 'api.twilio.com' : new URL(own).host;
}
