import type { Readable } from 'node:stream';
import { z } from 'zod';
import type { ErrorCategory, Json, JsonObject } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, NO_MESSAGE, problemAt } from '../adapter.js';
import { readSlack } from '../callbacks/slack.js';
import type { Callback, CallbackRequest, FileSource, OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked, endpoint, inDoubt, template } from '../config.js';
import { sourceOf, streamOf } from '../files/file-sources.js';
import { render, templateError, variablesOf } from '../messages/liquid.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { categoryOf, retryAfterMs } from '../net/http.js';
import { Wire, type WireAnswer } from '../net/wire.js';
import { abortReason, accepted, presentable, type Rejected, rejected, unanswered } from '../outcome.js';
import { approvalBlocks, approvalIn } from '../vendors/slack-approval.js';

/**
 * Messages to Slack by its Web API (https://docs.slack.dev/reference/methods/chat.postMessage). The methods are called
 * over the guard and not by Slack's package, whose HTTP client connects to any address that an upload URL names.
 */
const DECLARATION: Declaration = {
  channel: 'SLACK',
  provider: 'slack',
  configKey: 'slack',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: 'Asks whose token it is (`auth.test`).',
  limits: { maxBytes: 40_000, timeoutMs: 20_000 },
};

const ENDPOINT = 'https://slack.com/api';
/** Where answers to clicks go, and for how long they are tried, in milliseconds. */
const REPLIES = 'https://hooks.slack.com';
const REPLY_TIMEOUT_MS = 2_000;
const CHANNEL = /^(?:[CGDU][A-Z0-9]{6,20}|#[\p{Ll}\p{N}_-]{1,80})$/u;

/** `error` of an answer with `ok: false` (same page, "Errors"; and .../apis/web-api/rate-limits). */
const CATEGORIES: Readonly<Record<string, ErrorCategory>> = {
  invalid_auth: 'AUTHENTICATION',
  not_authed: 'AUTHENTICATION',
  account_inactive: 'AUTHENTICATION',
  token_revoked: 'AUTHENTICATION',
  token_expired: 'AUTHENTICATION',
  missing_scope: 'AUTHENTICATION',
  channel_not_found: 'CONFIGURATION',
  not_in_channel: 'CONFIGURATION',
  is_archived: 'PERMANENT',
  restricted_action: 'CONFIGURATION',
  ekm_access_denied: 'CONFIGURATION',
  msg_too_long: 'VALIDATION',
  no_text: 'VALIDATION',
  invalid_blocks: 'VALIDATION',
  too_many_attachments: 'VALIDATION',
  message_limit_exceeded: 'RATE_LIMIT',
  rate_limited: 'RATE_LIMIT',
  ratelimited: 'RATE_LIMIT',
  fatal_error: 'TEMPORARY',
  internal_error: 'TEMPORARY',
  service_unavailable: 'TEMPORARY',
  request_timeout: 'TEMPORARY',
};

const schema = (egress: Egress) =>
  z.strictObject({
    token: z
      .string()
      .regex(/^xox[bp]-[\w-]{5,200}$/, 'must be a bot or user token: xoxb-…')
      .describe('Token of the app, with the scope chat:write, and files:write for attachments.')
      .meta({ secret: true }),
    channel: checked(problemWithChannel).describe(
      'Where messages go: `C…`, `G…`, `D…`, `U…` or #name. Files need the id.',
    ),
    threadTs: z
      .string()
      .regex(/^\d{10}\.\d{6}$/, 'must be the ts of a message: 1700000000.000100')
      .optional()
      .describe('Answers in the thread of this message.'),
    bodyTemplate: template(20_000)
      .optional()
      .describe('Liquid template of the text (mrkdwn); wins over the text of the request.'),
    mentions: z
      .array(
        z
          .string()
          .regex(/^(?:[UW][A-Z0-9]{6,20}|S[A-Z0-9]{6,20}|here|channel)$/, 'must be U…, W…, S…, here or channel'),
      )
      .max(20)
      .optional()
      .describe('Who is mentioned before the text: people (`U…`), groups (`S…`), `here`, `channel`.'),
    signingSecret: z
      .string()
      .regex(/^[\w-]{8,200}$/, 'must be the signing secret of the app')
      .optional()
      .describe('Signing secret of the app. Without it clicks on buttons are refused.')
      .meta({ secret: true }),
    approvals: z
      .strictObject({
        approvers: z
          .record(
            z.string().regex(/^[UW][A-Z0-9]{6,20}$/, 'must be the id of a person: U…'),
            z.string().min(1).max(255),
          )
          .refine((approvers) => Object.keys(approvers).length <= 200, 'must not be more than 200')
          .describe('Who answers as which approver: the id of a person in Slack, and the name of the approver.'),
      })
      .optional()
      .describe(
        'Deliveries of the organization that wait for approval are asked for here, with buttons. For administrators only.',
      ),
    endpoint: endpoint(egress, ENDPOINT),
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
  });

type SlackConfig = ConfigOf<typeof schema>;

export class SlackAdapter extends Adapter<SlackConfig> {
  readonly errors = { source: 'https://docs.slack.dev/reference/methods/chat.postMessage', categories: CATEGORIES };
  readonly #egress: Egress;

  constructor(egress: Egress) {
    super(DECLARATION, schema(egress), inField('channel', problemWithChannel));
    this.#egress = egress;
  }

  protected async probe(config: SlackConfig, signal: AbortSignal) {
    const result = await this.#calling(config, NO_MESSAGE, new Date(), signal, (call) => call('auth.test', {}));
    if (!isRejected(result)) return undefined;
    const isReached = result.category !== 'NETWORK' && result.category !== 'CONFIGURATION';
    return problemAt(isReached ? 'token' : 'endpoint', result);
  }

  /** Clicks on the buttons of messages that ask for an approval. */
  parseCallback(request: CallbackRequest, config: JsonObject): Callback {
    const slack = config as unknown as SlackConfig;
    return readSlack(request, slack, async (url, message) => {
      // The signature vouches for the address, and the guard for where it leads; this keeps it to Slack all the same.
      const isSlacks =
        URL.canParse(url) && [REPLIES, new URL(slack.endpoint ?? ENDPOINT).origin].includes(new URL(url).origin);
      if (!isSlacks) return;
      const wire = new Wire(this.#egress, slack, new AbortController().signal, REPLY_TIMEOUT_MS);
      const headers = { 'content-type': 'application/json; charset=utf-8' };
      await wire.request({ url: new URL(url), method: 'POST', headers, body: JSON.stringify(message) });
    });
  }

  /** The message first, then its files into its thread: a file that fails must not bring the message a second time. */
  protected async deliver(
    config: SlackConfig,
    message: OutgoingMessage,
    { now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    if (signal.aborted) return unanswered(abortReason(signal), hostOf(config), false);
    const post = postOf(config, message);
    if (isRejected(post)) return post;
    const size = Buffer.byteLength(JSON.stringify(post));
    const { maxBytes } = DECLARATION.limits;
    if (size > maxBytes) return rejected('VALIDATION', 'TOO_LARGE', `the message has ${size} bytes, ${maxBytes} fit`);
    let posted: SlackAnswer | undefined;
    const result = await this.#calling(config, message, now, signal, async (call, upload) => {
      posted = await call('chat.postMessage', post);
      for (const attachment of message.content.attachments ?? []) {
        const { filename } = attachment;
        const source = sourceOf(attachment);
        const ticket = await call('files.getUploadURLExternal', { filename, length: source.bytes });
        await upload(ticket.upload_url ?? '', source);
        await call('files.completeUploadExternal', {
          files: [{ id: ticket.file_id, title: filename }],
          channel_id: posted.channel,
          thread_ts: config.threadTs ?? posted.ts,
        });
      }
      return posted;
    });
    if (!isRejected(result)) return accepted(result.ts);
    if (!posted) return result;
    return { ...accepted(posted.ts), warning: `the message is there, a file of it is not: ${result.detail}` };
  }

  async #calling(
    config: SlackConfig,
    message: OutgoingMessage,
    now: Date,
    signal: AbortSignal,
    work: (call: Call, upload: (url: string, file: FileSource) => Promise<void>) => Promise<SlackAnswer>,
  ): Promise<SlackAnswer | Rejected> {
    const wire = new Wire(this.#egress, config, signal, config.timeout ?? DECLARATION.limits.timeoutMs);
    const base = (config.endpoint ?? ENDPOINT).replace(/\/$/, '');
    const authorization = `Bearer ${config.token}`;
    const request = async (url: string, headers: Record<string, string>, body: string | Readable) => {
      const answer = await wire.request({ url: new URL(url), method: 'POST', headers, body });
      if (answer.status !== 200) throw new Refusal(answer, undefined);
      return answer;
    };
    const call: Call = async (method, params) => {
      // Uploads take their parameters as a form only.
      const isForm = method === 'files.getUploadURLExternal';
      const type = isForm ? 'application/x-www-form-urlencoded' : 'application/json; charset=utf-8';
      const form = () =>
        new URLSearchParams(
          Object.entries(params).map(([name, value]): [string, string] => [name, String(value)]),
        ).toString();
      const answer = await request(
        `${base}/${method}`,
        { authorization, 'content-type': type },
        isForm ? form() : JSON.stringify(params),
      );
      const result = JSON.parse(answer.body) as SlackAnswer; // what cannot be read is caught below
      if (result.ok !== true) throw new Refusal(answer, result.error);
      return result;
    };
    try {
      return await work(call, async (url, file) => {
        const headers = { 'content-type': 'application/octet-stream', 'content-length': String(file.bytes) };
        await request(url, headers, streamOf(file));
      });
    } catch (error) {
      if (error instanceof Refusal) return refused(error, config, message, now);
      if (wire.last?.kind === 'silence') return unanswered(wire.last.error, hostOf(config), wire.hasSent);
      return rejected('TEMPORARY', 'UNREADABLE_ANSWER', `${hostOf(config)} gave an answer that makes no sense`);
    }
  }
}

type Call = (method: string, params: Readonly<Record<string, unknown>>) => Promise<SlackAnswer>;

interface SlackAnswer {
  readonly ok?: boolean;
  readonly error?: string;
  readonly ts?: string;
  readonly channel?: string;
  readonly upload_url?: string;
  readonly file_id?: string;
}

class Refusal extends Error {
  constructor(
    readonly answer: WireAnswer,
    readonly error: string | undefined,
  ) {
    super('refused');
  }
}

const isRejected = (value: object): value is Rejected => 'kind' in value && value.kind === 'rejected';

const hostOf = ({ endpoint: own = ENDPOINT }: SlackConfig): string => new URL(own).host;

const problemWithChannel = (channel: string): string | undefined =>
  CHANNEL.test(channel) ? undefined : 'must be the id of a channel or person (C…, G…, D…, U…), or #name';

function postOf(config: SlackConfig, message: OutgoingMessage): JsonObject | Rejected {
  const { content } = message;
  const rendered = render(config.bodyTemplate ?? '', variablesOf(message));
  if (rendered.kind === 'failed') return templateError('bodyTemplate', rendered.problem);
  const own = [content.subject && `*${content.subject}*`, content.text].filter(Boolean).join('\n');
  const approval = approvalIn(content.data);
  const blocks = approval ? approvalBlocks(approval) : blocksIn(content.data);
  const data = content.data === undefined || blocks ? '' : JSON.stringify(content.data, null, 2);
  const words = rendered.text || own || data;
  const mentions = (config.mentions ?? []).map(mentionOf).join(' ');
  const text = [mentions, words].filter((part) => part !== '').join(' ');
  if (text === '' && !blocks) return rejected('VALIDATION', 'EMPTY_BODY', 'a message needs a text, data or blocks');
  return {
    channel: config.channel,
    text: text || ' ',
    ...(blocks && { blocks }),
    ...(config.threadTs !== undefined && { thread_ts: config.threadTs }),
    unfurl_links: false,
  };
}

/** Block Kit, when the request's data is `{ "blocks": [...] }`. */
function blocksIn(data: Json | undefined): readonly Json[] | undefined {
  const blocks = typeof data === 'object' && data !== null && 'blocks' in data ? data.blocks : undefined;
  return Array.isArray(blocks) ? blocks : undefined;
}

function mentionOf(id: string): string {
  if (id === 'here' || id === 'channel') return `<!${id}>`;
  return id.startsWith('S') ? `<!subteam^${id}>` : `<@${id}>`;
}

function refused({ answer, error }: Refusal, config: SlackConfig, message: OutgoingMessage, now: Date): Rejected {
  const words = presentable(error ?? '', message, [config.token]);
  const category =
    (error !== undefined && CATEGORIES[error]) || (answer.status === 200 ? 'PERMANENT' : categoryOf(answer.status));
  const wait =
    category === 'RATE_LIMIT' || category === 'TEMPORARY'
      ? retryAfterMs(answer.headers['retry-after'], now)
      : undefined;
  const code = /^[a-z_]{1,60}$/.test(error ?? '') ? `SLACK_${error?.toUpperCase()}` : `HTTP_${answer.status}`;
  const detail = `Slack answered ${answer.status}${words && `: ${words}`}`;
  return rejected(category, code, detail, wait === undefined ? {} : { retryAfterMs: wait });
}
