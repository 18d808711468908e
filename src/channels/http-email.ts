import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../domain/vocabulary.js';
import type { ChannelDescription, ConnectionTest, OutgoingMessage, SendOptions, SendOutcome } from './channel.js';
import { endpoint, inDoubt, problemsOf, timeout } from './config.js';
import type { Egress } from './egress.js';
import {
  type ComposedEmail,
  compose,
  type EmailConfig,
  emailFields,
  problemWithAddress,
  withRecipient,
} from './email.js';
import { exchange, type HttpAnswer, type HttpResult, refusedByHttp } from './http.js';
import { presentable, type Rejected, rejected, unanswered } from './outcome.js';

/** E-mail through a provider that takes one HTTP request for one message: what such providers do alike. */

export interface HttpEmailConfig extends EmailConfig {
  readonly endpoint?: string;
  readonly timeout?: number;
}

export interface ApiRequest {
  /** Appended to the endpoint's own path. */
  readonly path: string;
  /** Default POST. */
  readonly method?: 'GET' | 'POST';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

/** What is particular to one provider. */
export interface EmailApi<Config extends HttpEmailConfig> {
  readonly description: ChannelDescription;
  /** For a person. */
  readonly name: string;
  /** Where the API is unless the configuration says otherwise. */
  readonly endpoint: string;
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
    mail: ComposedEmail,
    context: { readonly config: Config; readonly message: OutgoingMessage; readonly attemptKey: string },
  ): ApiRequest | Rejected | Promise<ApiRequest>;
  /** The provider's id of the message in the body of a success. */
  messageId(body: string): string | undefined;
  /** What the body of a refusal says: its words, and a category or code that say more than the status. */
  refusal(answer: HttpAnswer): { readonly words: string; readonly category?: ErrorCategory; readonly code?: string };
}

/** What an adapter of such a provider is, given what is particular to it. */
export class HttpEmail<Config extends HttpEmailConfig> {
  readonly #api: EmailApi<Config>;
  readonly #egress: Egress;
  readonly #userAgent: string;
  readonly schema: z.ZodType;

  constructor(api: EmailApi<Config>, egress: Egress, userAgent: string) {
    this.#api = api;
    this.#egress = egress;
    this.#userAgent = userAgent;
    const shared = Object.entries(emailFields).filter(([field]) => !api.without?.includes(field as keyof EmailConfig));
    this.schema = z.strictObject({
      service: z.literal(api.description.provider).describe('Chooses this provider.'),
      ...api.fields,
      endpoint: endpoint(egress, api.endpoint),
      timeout: timeout(api.description.limits.timeoutMs),
      inDoubt: inDoubt(api.description.inDoubt),
      ...Object.fromEntries(shared),
    });
  }

  describe(): ChannelDescription {
    return this.#api.description;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return withRecipient(config, address);
  }

  validateAddress(address: string): string | undefined {
    return problemWithAddress(address);
  }

  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const own = config as unknown as Config;
    const startedAt = performance.now();
    const result = await this.#call(own, this.#api.probe(own), signal);
    const latencyMs = performance.now() - startedAt;
    const isAnswer = result.kind === 'answer';
    const problem = isAnswer
      ? this.#api.problemOfProbe(result)
      : unanswered(result.error, this.#hostOf(own), false).detail;
    const problems = problem === undefined ? [] : [{ path: isAnswer ? 'apiKey' : 'endpoint', problem }];
    return { ok: problem === undefined, latencyMs, problems };
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as Config;
    const { description, name } = this.#api;
    const mail = await compose(message, { attemptKey, maxBytes: description.limits.maxBytes });
    if (mail.kind === 'rejected') return mail;
    const request = await this.#api.request(mail, { config, message, attemptKey });
    if ('kind' in request) return request;
    const result = await this.#call(config, request, signal);
    if (result.kind === 'silence') return unanswered(result.error, this.#hostOf(config), result.sent);
    if (result.status >= 200 && result.status < 300) {
      const providerMessageId = this.#api.messageId(result.body);
      return { kind: 'accepted', delivered: false, ...(providerMessageId !== undefined && { providerMessageId }) };
    }
    const { words, category, code } = this.#api.refusal(result);
    const clean = presentable(words, message, this.#api.secrets(config));
    const refused = refusedByHttp(result, `${name} answered ${result.status}${clean && `: ${clean}`}`, now);
    return { ...refused, ...(category && { category }), ...(code && { code }) };
  }

  #call(config: Config, request: ApiRequest, signal: AbortSignal): Promise<HttpResult> {
    const { origin, pathname } = new URL(config.endpoint ?? this.#api.endpoint);
    return exchange(this.#egress.dispatcher, {
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
      timeoutMs: config.timeout ?? this.#api.description.limits.timeoutMs,
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

/** The body as JSON, an empty object when it is none. */
export function parsed(body: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** `Name <address>`; a name with specials of RFC 5322 is quoted. */
export const mailbox = ({ name, address }: { readonly name?: string; readonly address: string }): string =>
  name === undefined ? address : `"${name.replace(/["\\]/g, '')}" <${address}>`;

/** For a provider that has no place for something a message has. */
export const unsupported = (provider: string, what: string): Rejected =>
  rejected('VALIDATION', 'UNSUPPORTED', `${provider} takes no ${what}`);
