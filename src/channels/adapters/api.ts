import { z } from 'zod';
import type { Attachment } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, inDoubt, template } from '../config.js';
import { inBase64 } from '../files/file-sources.js';
import { render, templateError, variablesOf } from '../messages/liquid.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { exchange, type HttpAnswer, nobodyAt, refusedByHttp } from '../net/http.js';
import { at, explanation, parsed } from '../net/json.js';
import { presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import { headersSchema, secretHeaderValues } from '../webhook/request-headers.js';

/** Any HTTP API: method, URL, headers and body are templates, and a rule says which answers are success. */
const DECLARATION: Declaration = {
  channel: 'API',
  provider: 'api',
  configKey: 'api',
  idempotency: 'keyed',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: 'Asks the host of the URL with HEAD: that anybody answers. No template is rendered, as there is no message.',
  limits: { maxBytes: 10 * 1_024 * 1_024, timeoutMs: 15_000 },
};

/** Of the answer, for the rule on its body. */
const KEEP_BYTES = 65_536;

const schema = (egress: Egress) => {
  const field = z.string().regex(/^[\w-]+(\.[\w-]+){0,9}$/, 'must be a dotted path: data.status');
  return z.strictObject({
    url: template(2_000)
      .and(checked((url) => egress.problemWithUrl(url.split('{')[0] ?? '')))
      .describe('Liquid template of the URL. Its host is fixed; values are to be escaped: `{{ name | url_encode }}`.'),
    method: z
      .enum(['POST', 'PUT', 'PATCH', 'GET', 'DELETE'])
      .optional()
      .describe('HTTP method.')
      .meta({ default: 'POST' }),
    headers: headersSchema
      .optional()
      .describe(
        'Headers; their values are Liquid templates. Those with auth, token, key, secret, cookie, password or credential in their name are secrets.',
      ),
    bodyTemplate: template(100_000)
      .optional()
      .describe(
        'Liquid template of the body: `{"text": {{ text | json }}}`. Default: the content of the request as JSON.',
      ),
    contentType: z
      .string()
      .regex(/^[\w.+-]+\/[\w.+-]+(; ?[\w=-]+)?$/, 'must be a media type')
      .optional()
      .describe('Type of the body.')
      .meta({ default: 'application/json' }),
    idempotencyHeader: z
      .string()
      .regex(/^[A-Za-z][A-Za-z0-9-]{0,60}$/, 'must be the name of a header')
      .optional()
      .describe('Header that carries what is the same for all attempts at one message.')
      .meta({ default: 'Idempotency-Key' }),
    success: z
      .strictObject({
        statuses: z
          .array(z.int().min(100).max(599))
          .min(1)
          .max(50)
          .optional()
          .describe('Statuses that are success. Default: 200 to 299.'),
        field: field.optional().describe('Field of the JSON answer that must have the value `equals`.'),
        equals: z.json().optional().describe('That value. Without it the field only has to be there.'),
        messageIdField: field.optional().describe("Field of the JSON answer that is recorded as the provider's id."),
      })
      .optional()
      .describe('When an answer is success.'),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
  });
};

type ApiConfig = ConfigOf<typeof schema>;

export class ApiAdapter extends Adapter<ApiConfig> {
  readonly #egress: Egress;
  readonly #userAgent: string;

  constructor(egress: Egress, userAgent: string) {
    super(
      DECLARATION,
      schema(egress),
      inField('url', (url) => egress.problemWithUrl(url)),
    );
    this.#egress = egress;
    this.#userAgent = userAgent;
  }

  protected async probe(config: ApiConfig, signal: AbortSignal) {
    const timeoutMs = config.timeout ?? DECLARATION.limits.timeoutMs;
    const call = { headers: ['user-agent', this.#userAgent], timeoutMs, signal };
    const silence = await nobodyAt(this.#egress.dispatcher(config), new URL(config.url.split('{')[0] ?? ''), call);
    return silence && problemAt('url', silence);
  }

  protected async deliver(
    config: ApiConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    const { attachments } = message.content;
    const request = requestOf(config, message, attachments && (await Promise.all(attachments.map(inBase64))));
    if ('kind' in request) return request;
    const { url, headers, body } = request;
    const { maxBytes, timeoutMs } = DECLARATION.limits;
    const size = Buffer.byteLength(body ?? '');
    if (size > maxBytes) return rejected('VALIDATION', 'TOO_LARGE', `the body has ${size} bytes, ${maxBytes} fit`);
    const result = await exchange(this.#egress.dispatcher(config), {
      origin: url.origin,
      path: url.pathname + url.search,
      method: config.method ?? 'POST',
      headers: [...headers, config.idempotencyHeader ?? 'Idempotency-Key', attemptKey, 'user-agent', this.#userAgent],
      ...(body !== undefined && { body }),
      timeoutMs: config.timeout ?? timeoutMs,
      signal,
      keepBytes: KEEP_BYTES,
    });
    if (result.kind === 'silence') return unanswered(result.error, url.host, result.sent);
    return judged(result, config, message, url.host, now);
  }
}

function requestOf(config: ApiConfig, message: OutgoingMessage, attachments: readonly Attachment[] | undefined) {
  const { content } = message;
  const { subject, text, html, data } = content;
  const variables = {
    subject: subject ?? '',
    text: text ?? '',
    html: html ?? '',
    data: data ?? null,
    ...variablesOf(message),
  };
  const address = render(config.url, variables);
  if (address.kind === 'failed') return templateError('url', address.problem);
  const fixed = new URL(config.url.split('{')[0] ?? '').origin;
  if (!URL.canParse(address.text) || new URL(address.text).origin !== fixed) {
    return rejected('CONFIGURATION', 'BAD_URL', 'the values of this message make another host of the URL');
  }
  const headers: string[] = [];
  for (const [name, value] of Object.entries(config.headers ?? {})) {
    const rendered = render(value, variables);
    if (rendered.kind === 'failed') return templateError(`headers.${name}`, rendered.problem);
    headers.push(name, rendered.text.replace(/[^\t\x20-\x7e\x80-\xff]+/g, ' '));
  }
  if (config.method === 'GET' || config.method === 'DELETE') return { url: new URL(address.text), headers };
  headers.push('content-type', config.contentType ?? 'application/json');
  if (config.bodyTemplate === undefined) {
    const body = JSON.stringify({ deliveryId: message.deliveryId, subject, text, html, data, attachments });
    return { url: new URL(address.text), headers, body };
  }
  const body = render(config.bodyTemplate, variables);
  if (body.kind === 'failed') return templateError('bodyTemplate', body.problem);
  return { url: new URL(address.text), headers, body: body.text };
}

function judged(answer: HttpAnswer, config: ApiConfig, message: OutgoingMessage, host: string, now: Date): SendOutcome {
  const { statuses, field, equals, messageIdField } = config.success ?? {};
  const isGood = statuses ? statuses.includes(answer.status) : answer.status >= 200 && answer.status < 300;
  if (!isGood) return refused(answer, config, message, host, now);
  const json = field === undefined && messageIdField === undefined ? undefined : parsed(answer.body);
  if (field !== undefined) {
    const found = at(json, field);
    const isSo = equals === undefined ? found !== undefined : JSON.stringify(found) === JSON.stringify(equals);
    if (!isSo) {
      return rejected(
        'PERMANENT',
        'NOT_SUCCESSFUL',
        `${host} answered ${answer.status}, but ${field} is not what means success`,
      );
    }
  }
  const id = messageIdField === undefined ? undefined : at(json, messageIdField);
  const isId = typeof id === 'string' || typeof id === 'number';
  return { kind: 'accepted', delivered: false, ...(isId && { providerMessageId: String(id).slice(0, 255) }) };
}

function refused(answer: HttpAnswer, config: ApiConfig, message: OutgoingMessage, host: string, now: Date): Rejected {
  const words = presentable(explanation(answer.body), message, secretHeaderValues(config.headers));
  const detail = `${host} answered ${answer.status}${words && `: ${words}`}`;
  return refusedByHttp(answer, detail, now);
}
