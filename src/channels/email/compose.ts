import { z } from 'zod';
import type { Attachment, Content, FieldProblem, Json, JsonObject, Priority } from '../../domain/vocabulary.js';
import type { Address } from '../adapter.js';
import type { OutgoingAttachment, OutgoingContent, OutgoingMessage } from '../channel.js';
import { checked, template } from '../config.js';
import { type AttachmentEncryption, attachmentEncryption, encrypted } from '../files/attachment-encryption.js';
import { inBase64 } from '../files/file-sources.js';
import { type Rendered, render, type TemplateTarget, templateError, variablesOf } from '../messages/liquid.js';
import { type Rejected, rejected } from '../outcome.js';
import { headerProblems, type Unsubscribe, unsubscribeHeaders } from './headers.js';

/** What every e-mail provider has in common: who writes to whom, and the message itself. */

/** RFC 5321, 4.5.3.1: octets of the local part, of the domain, and of both with the @ within a path of 256. */
const LOCAL_PART_LIMIT = 64;
const ADDRESS_LIMIT = 254;
/** RFC 5322 dot-atom before the @; domain labels after it, at least two, internationalized ones too. */
const ADDRESS =
  /^([\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*)@(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.)+[\p{L}\p{N}][\p{L}\p{N}-]{0,61}[\p{L}\p{N}]$/u;
const NAMED = /^([^\p{Cc}<>"]{1,200}?)\s*<([^<>]+)>$/u;

/** RFC 5321, 4.5.3.1.8: a server has to take at least 100 recipients; whether it takes more nobody knows. */
const RECIPIENT_LIMIT = 100;
/** Copies of one message in `cc`, and in `bcc`. */
const COPY_LIMIT = 50;
const CONTENT_ID = /^[\w.+@-]{1,100}$/;
/** Beyond it the text alternative ends: reading HTML blocks the event loop, about 0.1 s at this size. */
const HTML_READ = 500_000;

export interface EmailConfig {
  readonly from: string;
  readonly recipients: readonly string[];
  readonly cc?: readonly string[];
  readonly bcc?: readonly string[];
  readonly replyTo?: string;
  readonly headers?: { readonly [name: string]: string };
  readonly unsubscribe?: Unsubscribe;
  readonly subject?: string;
  readonly bodyTemplate?: string;
  readonly htmlTemplate?: string;
  readonly attachmentEncryption?: AttachmentEncryption;
}

export interface Sender {
  readonly name?: string;
  readonly address: string;
}

export interface ComposedEmail {
  readonly kind: 'composed';
  readonly from: Sender;
  readonly to: readonly string[];
  readonly cc: readonly string[];
  readonly bcc: readonly string[];
  readonly replyTo?: string;
  readonly subject: string;
  readonly text?: string;
  readonly html?: string;
  /** Those with a `contentId` are inline images. */
  readonly attachments: readonly OutgoingAttachment[];
  /** Fields of the sender's own, those for unsubscribing and for the priority. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Without the angle brackets; the same for every attempt, so that mailboxes can remove duplicates (RFC 5322, 3.6.4). */
  readonly messageId: string;
  readonly tags: readonly string[];
}

export interface EmailInMemory extends ComposedEmail {
  readonly attachments: readonly Attachment[];
}

const addresses = z.array(checked(problemWithAddress)).max(COPY_LIMIT, `must name at most ${COPY_LIMIT} addresses`);

/** The fields of EmailConfig, for the schema of a provider to spread into its own. */
export const emailFields = {
  from: checked((text) =>
    senderOf(text) ? undefined : 'must be an e-mail address, or a name with one: Reports <reports@example.com>',
  ).describe('The sender: an address, or a name with one: `Reports <reports@example.com>`.'),
  recipients: z
    .array(checked(problemWithAddress))
    .min(1, 'must name at least one address')
    .max(RECIPIENT_LIMIT, `must name at most ${RECIPIENT_LIMIT} addresses`)
    .describe('Who gets each message, all of them in one; 1 to 100 addresses.'),
  cc: addresses.optional().describe('Who gets a copy of each message, for all to see.'),
  bcc: addresses.optional().describe('Who gets a copy of each message, for nobody to see.'),
  replyTo: checked(problemWithAddress).optional().describe('Where answers go. Default: the sender.'),
  subject: template(1_000).optional().describe('Liquid template of the subject; wins over the subject of the request.'),
  bodyTemplate: template(100_000)
    .optional()
    .describe('Liquid template of the text; wins over the text of the request.'),
  htmlTemplate: template(100_000)
    .optional()
    .describe('Liquid template of the HTML, values are escaped; wins over the HTML of the request.'),
  headers: z
    .record(z.string(), z.string())
    .superRefine((headers, context) => {
      for (const { path, problem } of headerProblems(headers))
        context.addIssue({ code: 'custom', path: path === '' ? [] : [path], message: problem });
    })
    .optional()
    .describe('Header fields of your own, by name.'),
  unsubscribe: z
    .strictObject({
      url: template(2_000)
        .refine((url) => url.startsWith('https://'), 'must be an https URL')
        .optional()
        .describe('A template too (`{{deliveryId}}`); takes the POST of RFC 8058.'),
      mailto: checked(problemWithAddress).optional().describe('Takes a message that ends it.'),
    })
    .refine(({ url, mailto }) => url !== undefined || mailto !== undefined, 'must have a url or a mailto')
    .optional()
    .describe('How the recipient can end it: List-Unsubscribe, with one click where there is a URL.'),
  attachmentEncryption: attachmentEncryption.optional().describe('How attachments are encrypted. Default: not at all.'),
};

export function problemWithAddress(address: string): string | undefined {
  const local = ADDRESS.exec(address)?.[1];
  const fits = local !== undefined && local.length <= LOCAL_PART_LIMIT && Buffer.byteLength(address) <= ADDRESS_LIMIT;
  return fits ? undefined : 'is not an e-mail address';
}

/** What is wrong with the part of a request that only e-mail has; paths are relative to `content`. */
export function emailContentProblems({ email, attachments = [] }: Content): FieldProblem[] {
  const problems: FieldProblem[] = [];
  for (const [index, { contentId }] of attachments.entries())
    if (typeof contentId === 'string' && !CONTENT_ID.test(contentId))
      problems.push({
        path: `attachments.${index}.contentId`,
        problem: 'must be 1 to 100 letters, digits or . _ + @ -',
      });
  const { replyTo, headers } = email ?? {};
  const check = (address: string, path: string) => {
    const problem = problemWithAddress(address);
    if (problem) problems.push({ path, problem });
  };
  if (typeof replyTo === 'string') check(replyTo, 'email.replyTo');
  for (const field of ['cc', 'bcc'] as const) {
    const list = email?.[field] ?? [];
    if (list.length > COPY_LIMIT)
      problems.push({ path: `email.${field}`, problem: `must name at most ${COPY_LIMIT} addresses` });
    for (const [index, address] of list.entries()) check(address, `email.${field}.${index}`);
  }
  if (headers === undefined || headers === null) return problems;
  if (!isObject(headers)) return [...problems, { path: 'email.headers', problem: 'must be an object of text by name' }];
  const found = headerProblems(headers);
  return [
    ...problems,
    ...found.map(({ path, problem }) => ({ path: path === '' ? 'email.headers' : `email.headers.${path}`, problem })),
  ];
}

/** A bare address is the one recipient. */
export const recipient: Address = {
  problem: problemWithAddress,
  into: (config, address) => ({ ...config, recipients: [address] }),
};

/** `a@b.example` or `Name <a@b.example>`, undefined when it is neither. */
export function senderOf(from: string): Sender | undefined {
  const [, name, address] = NAMED.exec(from) ?? [undefined, undefined, from];
  if (address === undefined || problemWithAddress(address) !== undefined) return undefined;
  return name === undefined ? { address } : { name, address };
}

/**
 * The message to be sent. Where the destination has a template it wins over the content of the request; the subject
 * falls back to `Notification`, the text to what the HTML says or to the data as JSON.
 *
 * @param maxBytes what the provider takes, as sent
 */
export async function compose(
  message: OutgoingMessage,
  { attemptKey, maxBytes }: { readonly attemptKey: string; readonly maxBytes: number },
): Promise<ComposedEmail | Rejected> {
  const config = message.config as unknown as EmailConfig;
  const { content } = message;
  const subject = fromTemplate(config.subject, message) ?? literal(content.subject ?? 'Notification');
  if (subject.kind === 'failed') return templateError('subject', subject.problem);
  const html = fromTemplate(config.htmlTemplate, message, 'html') ?? literal(content.html ?? '');
  if (html.kind === 'failed') return templateError('htmlTemplate', html.problem);
  const body = fromTemplate(config.bodyTemplate, message) ?? literal(content.text ?? dataAsText(content, html.text));
  if (body.kind === 'failed') return templateError('bodyTemplate', body.problem);
  const unsubscribe = unsubscribeOf(config, message);
  if (!Array.isArray(unsubscribe)) return unsubscribe;
  const from = senderOf(config.from);
  if (!from) throw new Error('the configuration was not validated: from');

  const clear = (content.attachments ?? []).map(harmless);
  const attachments = config.attachmentEncryption ? await encrypted(clear, config.attachmentEncryption) : clear;
  if ('kind' in attachments) return attachments;
  const text = body.text === '' && html.text !== '' ? await textOfHtml(html.text) : body.text;
  const size = sizeOf(text, html.text, attachments.every(isMeasured) ? attachments : clear);
  if (size > maxBytes) return rejected('VALIDATION', 'TOO_LARGE', `the message has ${size} bytes, ${maxBytes} fit`);
  const to = distinct(config.recipients, []);
  const cc = distinct([...(config.cc ?? []), ...(content.email?.cc ?? [])], to);
  const replyTo = content.email?.replyTo ?? config.replyTo;
  return {
    kind: 'composed',
    from,
    to,
    cc,
    bcc: distinct([...(config.bcc ?? []), ...(content.email?.bcc ?? [])], [...to, ...cc]),
    ...(replyTo && { replyTo }),
    // A line break would end the header and begin another one of somebody else's choice.
    subject: subject.text.replace(/\p{Cc}+/gu, ' ').trim(),
    ...(text !== '' && { text }),
    ...(html.text !== '' && { html: html.text }),
    attachments,
    headers: [...ownHeaders(config, content), ...unsubscribe, ...PRIORITY_HEADERS[message.priority ?? 'NORMAL']],
    messageId: `${attemptKey.replace(/[^A-Za-z0-9._-]/g, '-')}@${from.address.slice(from.address.lastIndexOf('@') + 1)}`,
    tags: message.tags ?? [],
  };
}

/** The same for a provider that takes attachments in no other way than in JSON or in one piece. */
export async function inMemory(mail: ComposedEmail): Promise<EmailInMemory> {
  return { ...mail, attachments: await Promise.all(mail.attachments.map(inBase64)) };
}

/** What is encrypted on the way is not much larger than it was. */
const isMeasured = (file: OutgoingAttachment): boolean => !('source' in file) || file.source.bytes !== undefined;

function fromTemplate(
  text: string | undefined,
  message: OutgoingMessage,
  target: TemplateTarget = 'text',
): Rendered | undefined {
  return text === undefined ? undefined : render(text, variablesOf(message), target);
}

function literal(text: string): Rendered {
  return { kind: 'rendered', text };
}

function dataAsText({ data }: OutgoingContent, html: string): string {
  return html === '' && data !== undefined ? JSON.stringify(data, null, 2) : '';
}

/** What a reader without HTML sees. Loaded when first needed, as that takes 0.1 s. */
export async function textOfHtml(html: string): Promise<string> {
  const { convert } = await import('html-to-text');
  const selectors = [
    { selector: 'img', format: 'skip' },
    { selector: 'a', options: { hideLinkHrefIfSameAsText: true } },
  ];
  return convert(html, { wordwrap: false, selectors, limits: { maxInputLength: HTML_READ, maxDepth: 200 } });
}

function unsubscribeOf(config: EmailConfig, message: OutgoingMessage): [string, string][] | Rejected {
  const { url, mailto } = config.unsubscribe ?? {};
  const rendered = fromTemplate(url, message);
  if (rendered?.kind === 'failed') return templateError('unsubscribe.url', rendered.problem);
  const headers = unsubscribeHeaders({
    ...(rendered && { url: rendered.text }),
    ...(mailto !== undefined && { mailto }),
  });
  return headers ?? templateError('unsubscribe.url', 'gives no https URL for this message');
}

/** The fields of the request win over those of the destination. */
function ownHeaders({ headers = {} }: EmailConfig, { email }: OutgoingContent): [string, string][] {
  const byName = new Map<string, [string, string]>();
  for (const header of [...Object.entries(headers), ...Object.entries(email?.headers ?? {})])
    byName.set(header[0].toLowerCase(), header);
  return [...byName.values()];
}

/** What mail programs mark letters by; `Importance` is in RFC 4021, 2.1.54, `X-Priority` is older than it. */
const PRIORITY_HEADERS: Readonly<Record<Priority, readonly (readonly [string, string])[]>> = {
  URGENT: [
    ['Importance', 'high'],
    ['X-Priority', '1'],
  ],
  HIGH: [
    ['Importance', 'high'],
    ['X-Priority', '2'],
  ],
  NORMAL: [],
  LOW: [
    ['Importance', 'low'],
    ['X-Priority', '5'],
  ],
};

/** The same address twice is refused by SendGrid, and delivered twice by others. */
function distinct(list: readonly string[], except: readonly string[]): string[] {
  const seen = new Set(except.map((address) => address.toLowerCase()));
  return list.filter((address) => {
    const isNew = !seen.has(address.toLowerCase());
    seen.add(address.toLowerCase());
    return isNew;
  });
}

/** Bytes as sent, within a few percent: base64 in lines of 76, text as it is, 4 kB of headers. */
function sizeOf(text: string, html: string, attachments: readonly OutgoingAttachment[]): number {
  const files = attachments.reduce(
    (sum, file) => sum + ('source' in file ? 4 * Math.ceil((file.source.bytes ?? 0) / 3) : file.base64.length),
    0,
  );
  return Math.ceil((files * 78) / 76) + Buffer.byteLength(text) + Buffer.byteLength(html) + 4_096;
}

/** Names and types go into MIME headers. */
function harmless(attachment: OutgoingAttachment): OutgoingAttachment {
  const clean = (text: string) => text.replace(/[\p{Cc}"]+/gu, ' ').trim();
  return { ...attachment, filename: clean(attachment.filename), contentType: clean(attachment.contentType) };
}

const isObject = (value: Json): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
