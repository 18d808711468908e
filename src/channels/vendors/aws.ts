import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import { Adapter, NO_MESSAGE } from '../adapter.js';
import type { ErrorTable, OutgoingMessage } from '../channel.js';
import { endpoint } from '../config.js';
import type { Outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { categoryOf, exchange, type HttpResult, refusedByHttp } from '../net/http.js';
import { presentable, type Rejected, unanswered } from '../outcome.js';

/** What the services of AWS have in common. Their SDK signs and writes requests; they leave through the guard. */

export interface AwsConfig extends Outbound {
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly endpoint?: string;
}

/** For the schema of an adapter to spread into its own. The instance's own AWS credentials are never used. */
export const awsFields = (egress: Egress) => ({
  region: z
    .string()
    .regex(/^[a-z]{2}(-[a-z]+)+-\d$/, 'must be a region such as eu-central-1')
    .describe('The region: `eu-central-1`.'),
  accessKeyId: z
    .string()
    .regex(/^\w{16,128}$/, 'must be 16 to 128 letters and digits')
    .describe('Id of the access key.'),
  secretAccessKey: z
    .string()
    .regex(/^[\x21-\x7e]{1,200}$/, 'must be printable and without spaces')
    .describe('The access key itself.')
    .meta({ secret: true }),
  sessionToken: z
    .string()
    .regex(/^[\x21-\x7e]{1,4096}$/, 'must be printable and without spaces')
    .optional()
    .describe('Of temporary credentials.')
    .meta({ secret: true }),
  endpoint: endpoint(egress, "the region's own"),
});

/** Errors that all services give (https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html). */
const COMMON: Readonly<Record<string, ErrorCategory>> = {
  AccessDenied: 'AUTHENTICATION',
  AccessDeniedException: 'AUTHENTICATION',
  AuthorizationError: 'AUTHENTICATION',
  AuthorizationErrorException: 'AUTHENTICATION',
  ExpiredToken: 'AUTHENTICATION',
  ExpiredTokenException: 'AUTHENTICATION',
  IncompleteSignature: 'AUTHENTICATION',
  InvalidClientTokenId: 'AUTHENTICATION',
  MissingAuthenticationToken: 'AUTHENTICATION',
  NotAuthorized: 'AUTHENTICATION',
  OptInRequired: 'AUTHENTICATION',
  SignatureDoesNotMatch: 'AUTHENTICATION',
  UnrecognizedClientException: 'AUTHENTICATION',
  RequestExpired: 'SYSTEM', // the clocks differ by more than five minutes
  RequestTimeTooSkewed: 'SYSTEM',
  InternalFailure: 'TEMPORARY',
  ServiceUnavailable: 'TEMPORARY',
  Throttling: 'RATE_LIMIT',
  ThrottlingException: 'RATE_LIMIT',
  ThrottledException: 'RATE_LIMIT',
  TooManyRequestsException: 'RATE_LIMIT',
};

export interface AwsCall<T> {
  readonly value?: T;
  readonly error?: unknown;
  /** What went over the wire, missing when nothing did. */
  readonly result?: HttpResult;
}

/** What an adapter of one of AWS's services starts from. */
export abstract class AwsService<Config extends AwsConfig> extends Adapter<Config> {
  readonly #egress: Egress;
  readonly #name: string;
  readonly errors: ErrorTable;

  /** @param errors the service's own; they win over the common ones */
  constructor(
    egress: Egress,
    { name, errors: { source, categories } }: { readonly name: string; readonly errors: ErrorTable },
    ...parts: ConstructorParameters<typeof Adapter>
  ) {
    super(...parts);
    this.#egress = egress;
    this.#name = name;
    this.errors = { source, categories: { ...COMMON, ...categories } };
  }

  /** Reads something of the account's, by a client made with these options. */
  protected abstract read(config: Config, options: object): Promise<unknown>;

  protected async probe(config: Config, signal: AbortSignal) {
    const call = await this.call(config, signal, (options) => this.read(config, options));
    if (call.error === undefined) return undefined;
    const { category, detail } = this.refusal(call, config, NO_MESSAGE, new Date());
    const path = category === 'AUTHENTICATION' ? 'accessKeyId' : call.result?.kind === 'answer' ? 'region' : 'endpoint';
    return { path, problem: detail };
  }

  /** Options for the constructor of any client, and the exchange of the one call it is made for. Nothing is repeated. */
  protected async call<T>(
    config: Config,
    signal: AbortSignal,
    call: (options: object) => Promise<T>,
  ): Promise<AwsCall<T>> {
    let result: HttpResult | undefined;
    const requestHandler = {
      metadata: { handlerProtocol: 'http/1.1' },
      handle: async (request: SdkRequest) => {
        const base = `${request.protocol}//${request.hostname}${request.port ? `:${request.port}` : ''}`;
        const query = new URLSearchParams(request.query as Record<string, string>).toString();
        result = await exchange(this.#egress.dispatcher(config), {
          origin: base,
          path: query === '' ? request.path : `${request.path}?${query}`,
          method: request.method as 'GET' | 'POST' | 'PUT',
          headers: Object.entries(request.headers).flat(),
          ...(request.body !== undefined && {
            body: typeof request.body === 'string' ? request.body : Buffer.from(request.body),
          }),
          timeoutMs: config.timeout ?? this.describe().limits.timeoutMs,
          signal,
          keepBytes: 65_536,
        });
        if (result.kind === 'silence') throw result.error;
        const { status: statusCode, headers, body } = result;
        return { response: { statusCode, headers, body: Buffer.from(body) } };
      },
    };
    const { region, accessKeyId, secretAccessKey, sessionToken, endpoint } = config;
    const options = {
      region,
      credentials: { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) },
      ...(endpoint !== undefined && { endpoint }),
      maxAttempts: 1,
      requestHandler,
    };
    try {
      return { value: await call(options), ...(result && { result }) };
    } catch (error) {
      return { error, ...(result && { result }) };
    }
  }

  /**
   * The outcome of a call that failed.
   *
   * @throws the error when nothing went over the wire: a programmer's
   */
  protected refusal(
    { error, result }: AwsCall<unknown>,
    config: Config,
    message: OutgoingMessage,
    now: Date,
  ): Rejected {
    if (!result) throw error;
    if (result.kind === 'silence') return unanswered(result.error, this.#hostOf(config), result.sent);
    const { name = 'Error', message: words = '' } = error as { name?: string; message?: string };
    const secrets = [config.secretAccessKey, config.accessKeyId, config.sessionToken ?? ''];
    const detail = `Amazon ${this.#name} answered ${result.status} ${name}: ${presentable(words, message, secrets)}`;
    const refusal = refusedByHttp(result, detail, now);
    const category = this.errors.categories[name] ?? categoryOf(result.status);
    return { ...refusal, category, code: codeOf(name) ?? refusal.code };
  }

  #hostOf({ endpoint, region }: Config): string {
    return endpoint === undefined ? `Amazon ${this.#name} (${region})` : new URL(endpoint).host;
  }
}

/** What the SDK asks of its HTTP handler. */
interface SdkRequest {
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number;
  readonly path: string;
  readonly query?: object;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** `TooManyRequestsException` as AWS_TOO_MANY_REQUESTS. */
const codeOf = (name: string): string | undefined =>
  /^[A-Za-z]{1,60}$/.test(name)
    ? `AWS_${name
        .replace(/(Exception|Error)$/, '')
        .replace(/([a-z])([A-Z])/g, '$1_$2')
        .toUpperCase()}`
    : undefined;
