import { z } from 'zod';
import type { ErrorCategory } from '../domain/vocabulary.js';
import type { OutgoingMessage } from './channel.js';
import { endpoint } from './config.js';
import type { Egress } from './egress.js';
import { categoryOf, exchange, type HttpResult, refusedByHttp } from './http.js';
import { presentable, type Rejected, unanswered } from './outcome.js';

/** What the services of AWS have in common. Their SDK signs and writes requests; they leave through the guard. */

export interface AwsConfig {
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly endpoint?: string;
  readonly timeout?: number;
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

export const awsSecrets = ['secretAccessKey', 'sessionToken'];

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

/** Options for the constructor of any client, and the exchange of the one call it is made for. Nothing is repeated. */
export async function awsCall<T>(
  egress: Egress,
  config: AwsConfig,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
  call: (options: object) => Promise<T>,
): Promise<AwsCall<T>> {
  let result: HttpResult | undefined;
  const requestHandler = {
    metadata: { handlerProtocol: 'http/1.1' },
    handle: async (request: SdkRequest) => {
      const base = `${request.protocol}//${request.hostname}${request.port ? `:${request.port}` : ''}`;
      const query = new URLSearchParams(request.query as Record<string, string>).toString();
      result = await exchange(egress.dispatcher, {
        origin: base,
        path: query === '' ? request.path : `${request.path}?${query}`,
        method: request.method as 'GET' | 'POST' | 'PUT',
        headers: Object.entries(request.headers).flat(),
        ...(request.body !== undefined && {
          body: typeof request.body === 'string' ? request.body : Buffer.from(request.body),
        }),
        timeoutMs: config.timeout ?? timeoutMs,
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

/**
 * The outcome of a call that failed.
 *
 * @param own the service's own error names; they win over the common ones
 * @throws the error when nothing went over the wire: a programmer's
 */
export function awsRefusal(
  { error, result }: AwsCall<unknown>,
  service: string,
  own: Readonly<Record<string, ErrorCategory>>,
  context: { readonly config: AwsConfig; readonly message: OutgoingMessage; readonly now: Date },
): Rejected {
  if (!result) throw error;
  const { config, message, now } = context;
  if (result.kind === 'silence') return unanswered(result.error, awsHost(config, service), result.sent);
  const { name = 'Error', message: words = '' } = error as { name?: string; message?: string };
  const secrets = [config.secretAccessKey, config.accessKeyId, config.sessionToken ?? ''];
  const detail = `Amazon ${service} answered ${result.status} ${name}: ${presentable(words, message, secrets)}`;
  const refusal = refusedByHttp(result, detail, now);
  const category = own[name] ?? COMMON[name] ?? categoryOf(result.status);
  return { ...refusal, category, code: codeOf(name) ?? refusal.code };
}

/** `TooManyRequestsException` as AWS_TOO_MANY_REQUESTS. */
const codeOf = (name: string): string | undefined =>
  /^[A-Za-z]{1,60}$/.test(name)
    ? `AWS_${name
        .replace(/(Exception|Error)$/, '')
        .replace(/([a-z])([A-Z])/g, '$1_$2')
        .toUpperCase()}`
    : undefined;

export const awsHost = ({ endpoint, region }: AwsConfig, service: string): string =>
  endpoint === undefined ? `Amazon ${service} (${region})` : new URL(endpoint).host;

/** For `test`: what the answer to a call that delivers nothing says against the configuration. */
export function awsTest(call: AwsCall<unknown>, service: string, config: AwsConfig, startedAt: number) {
  const latencyMs = performance.now() - startedAt;
  if (call.error === undefined) return { ok: true, latencyMs, problems: [] };
  const nothing = { config: {}, content: {}, deliveryId: '', organizationId: '', requestedAt: '' };
  const { category, detail } = awsRefusal(call, service, {}, { config, message: nothing, now: new Date() });
  const path = category === 'AUTHENTICATION' ? 'accessKeyId' : call.result?.kind === 'answer' ? 'region' : 'endpoint';
  return { ok: false, latencyMs, problems: [{ path, problem: detail }] };
}
