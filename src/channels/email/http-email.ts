import { z } from 'zod';
import type { ErrorCategory, FieldProblem } from '../../domain/vocabulary.js';
import { Adapter, type Declaration } from '../adapter.js';
import type { ErrorTable, OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { endpoint, inDoubt } from '../config.js';
import { type Outbound, outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { exchange, type HttpAnswer, type HttpResult, refusedByHttp } from '../net/http.js';
import { accepted, presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import { compose, type EmailConfig, type EmailInMemory, emailFields, inMemory, recipient } from './compose.js';

/** E-mail through a provider that takes one HTTP request for one message: what such providers do alike. */

export interface HttpEmailConfig extends EmailConfig, Outbound {
  readonly endpoint?: string;
}

export interface ApiRequest {
  /** Appended to the endpoint's own path. */
  readonly path: string;
  /** Default POST. */
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

/** What a provider says of a refusal: its words, and what says more than status and headers do. */
export interface Explanation {
  readonly words: string;
  readonly category?: ErrorCategory;
  readonly code?: string;
  readonly retryAfterMs?: number;
}

/** What is particular to one provider. */
export interface EmailApi<Config extends HttpEmailConfig> {
  readonly declaration: Declaration;
  /** For a person. */
  readonly name: string;
  /** Where the API is unless the configuration says otherwise. */
  readonly endpoint: string;
  /** For a person: where else it is. */
  readonly elsewhere?: string;
  /** Fields of the configuration beside those that all have: credentials first of all. */
  readonly fields: z.ZodRawShape;
  /** Fields of EmailConfig that the provider has no place for. */
  readonly without?: readonly (keyof EmailConfig)[];
  /** Credentials as headers. */
  authorization(config: Config): Readonly<Record<string, string>>;
  /** What no error may repeat. */
  secrets(config: Config): readonly string[];
  /** A call that needs the credentials and delivers nothing. */
  probe(config: Config): ApiRequest;
  /** What the probe's answer says against the credentials, undefined when nothing. */
  problemOfProbe(answer: HttpAnswer): string | undefined;
  request(
    mail: EmailInMemory,
    context: { readonly config: Config; readonly message: OutgoingMessage; readonly attemptKey: string },
  ): ApiRequest | Rejected | Promise<ApiRequest | Rejected>;
  /** The provider's id of the message in the answer to one that was taken; anything but a text is none. */
  messageId(answer: HttpAnswer): unknown;
  refusal(answer: HttpAnswer, now: Date): Explanation;
  readonly errors?: ErrorTable;
}

/** What an adapter of such a provider is, given what is particular to it. */
export class HttpEmail<Config extends HttpEmailConfig> extends Adapter<Config> {
  readonly errors?: ErrorTable;
  readonly #api: EmailApi<Config>;
  readonly #egress: Egress;
  readonly #userAgent: string;

  constructor(api: EmailApi<Config>, egress: Egress, userAgent: string) {
    const { declaration, fields, without = [] } = api;
    const shared = Object.entries(emailFields).filter(([field]) => !without.includes(field as keyof EmailConfig));
    const schema = z.strictObject({
      service: z.literal(declaration.provider).describe('Chooses this provider.'),
      ...fields,
      endpoint: endpoint(egress, api.endpoint).describe(
        ["Base URL of the provider's API.", api.elsewhere].join(' ').trim(),
      ),
      ...outbound(egress, declaration.limits.timeoutMs),
      inDoubt: inDoubt(declaration.inDoubt),
      ...Object.fromEntries(shared),
    });
    super(declaration, schema, recipient);
    if (api.errors) this.errors = api.errors;
    this.#api = api;
    this.#egress = egress;
    this.#userAgent = userAgent;
  }

  protected async probe(config: Config, signal: AbortSignal): Promise<FieldProblem | undefined> {
    const result = await this.#call(config, this.#api.probe(config), signal);
    if (result.kind === 'silence')
      return { path: 'endpoint', problem: unanswered(result.error, this.#hostOf(config), false).detail };
    const problem = this.#api.problemOfProbe(result);
    return problem === undefined ? undefined : { path: 'apiKey', problem };
  }

  protected async deliver(
    config: Config,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    const { declaration, name } = this.#api;
    const mail = await compose(message, { attemptKey, maxBytes: declaration.limits.maxBytes });
    if (mail.kind === 'rejected') return mail;
    const request = await this.#api.request(await inMemory(mail), { config, message, attemptKey });
    if ('kind' in request) return request;
    const result = await this.#call(config, request, signal);
    if (result.kind === 'silence') return unanswered(result.error, this.#hostOf(config), result.sent);
    if (result.status >= 200 && result.status < 300) return accepted(this.#api.messageId(result));
    const { words, ...more } = this.#api.refusal(result, now);
    const clean = presentable(words, message, this.#api.secrets(config));
    return { ...refusedByHttp(result, `${name} answered ${result.status}${clean && `: ${clean}`}`, now), ...more };
  }

  #call(config: Config, request: ApiRequest, signal: AbortSignal): Promise<HttpResult> {
    const { origin, pathname } = new URL(config.endpoint ?? this.#api.endpoint);
    return exchange(this.#egress.dispatcher(config), {
      origin,
      path: pathname.replace(/\/$/, '') + request.path,
      method: request.method ?? 'POST',
      headers: Object.entries({
        accept: 'application/json',
        'user-agent': this.#userAgent,
        ...this.#api.authorization(config),
        ...request.headers,
      }).flat(),
      ...(request.body !== undefined && { body: request.body }),
      timeoutMs: config.timeout ?? this.#api.declaration.limits.timeoutMs,
      signal,
      keepBytes: 16_384,
    });
  }

  #hostOf(config: Config): string {
    return new URL(config.endpoint ?? this.#api.endpoint).host;
  }
}

/** An API key: printable and without spaces, as it goes into a header. */
export const apiKey = z
  .string()
  .regex(/^[\x21-\x7e]{1,200}$/, 'must be printable and without spaces')
  .describe('The API key.')
  .meta({ secret: true });

export const jsonRequest = (
  path: string,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): ApiRequest => ({
  path,
  headers: { 'content-type': 'application/json', ...headers },
  body: JSON.stringify(body),
});

/** `Name <address>`; a name with specials of RFC 5322 is quoted. */
export const mailbox = ({ name, address }: { readonly name?: string; readonly address: string }): string =>
  name === undefined ? address : `"${name.replace(/["\\]/g, '')}" <${address}>`;

/** For a provider that has no place for something a message has. */
export const unsupported = (provider: string, what: string): Rejected =>
  rejected('VALIDATION', 'UNSUPPORTED', `${provider} takes no ${what}`);
