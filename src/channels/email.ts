import { z } from 'zod';
import type { Attachment, JsonObject } from '../domain/vocabulary.js';
import type { OutgoingMessage } from './channel.js';
import { checked, template } from './config.js';
import { type Rendered, render, templateError, variablesOf } from './liquid.js';
import type { Rejected } from './outcome.js';

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

export interface EmailConfig {
  readonly from: string;
  readonly recipients: readonly string[];
  readonly subject?: string;
  readonly bodyTemplate?: string;
}

export interface Sender {
  readonly name?: string;
  readonly address: string;
}

export interface ComposedEmail {
  readonly kind: 'composed';
  readonly from: Sender;
  readonly to: readonly string[];
  readonly subject: string;
  readonly text?: string;
  readonly html?: string;
  readonly attachments: readonly Attachment[];
}

/** The fields of EmailConfig, for the schema of a provider to spread into its own. */
export const emailFields = {
  from: checked((text) =>
    senderOf(text) ? undefined : 'must be an e-mail address, or a name with one: Reports <reports@example.com>',
  ),
  recipients: z
    .array(checked(problemWithAddress))
    .min(1, 'must name at least one address')
    .max(RECIPIENT_LIMIT, `must name at most ${RECIPIENT_LIMIT} addresses`),
  subject: template(1_000).optional(),
  bodyTemplate: template(100_000).optional(),
};

export function problemWithAddress(address: string): string | undefined {
  const local = ADDRESS.exec(address)?.[1];
  const fits = local !== undefined && local.length <= LOCAL_PART_LIMIT && Buffer.byteLength(address) <= ADDRESS_LIMIT;
  return fits ? undefined : 'is not an e-mail address';
}

export function withRecipient(config: JsonObject, address: string): JsonObject {
  return { ...config, recipients: [address] };
}

/** `a@b.example` or `Name <a@b.example>`, undefined when it is neither. */
export function senderOf(from: string): Sender | undefined {
  const [, name, address] = NAMED.exec(from) ?? [undefined, undefined, from];
  if (address === undefined || problemWithAddress(address) !== undefined) return undefined;
  return name === undefined ? { address } : { name, address };
}

/**
 * The message to be sent. Where the destination has a template it wins over the content of the request; the subject
 * falls back to `Notification`, the text to the data as JSON.
 */
export function compose(message: OutgoingMessage): ComposedEmail | Rejected {
  const config = message.config as unknown as EmailConfig;
  const { content } = message;
  const subject = fromTemplate(config.subject, message) ?? literal(content.subject ?? 'Notification');
  if (subject.kind === 'failed') return templateError('subject', subject.problem);
  const body = fromTemplate(config.bodyTemplate, message) ?? literal(content.text ?? dataAsText(message));
  if (body.kind === 'failed') return templateError('bodyTemplate', body.problem);
  const from = senderOf(config.from);
  if (!from) throw new Error('the configuration was not validated: from');
  return {
    kind: 'composed',
    from,
    // The same address twice is refused by SendGrid, and delivered twice by others.
    to: [...new Set(config.recipients)],
    // A line break would end the header and begin another one of somebody else's choice.
    subject: subject.text.replace(/\p{Cc}+/gu, ' ').trim(),
    ...(body.text !== '' && { text: body.text }),
    ...(content.html !== undefined && { html: content.html }),
    attachments: (content.attachments ?? []).map(harmless),
  };
}

function fromTemplate(text: string | undefined, message: OutgoingMessage): Rendered | undefined {
  return text === undefined ? undefined : render(text, variablesOf(message));
}

function literal(text: string): Rendered {
  return { kind: 'rendered', text };
}

function dataAsText({ content: { html, data } }: OutgoingMessage): string {
  return html === undefined && data !== undefined ? JSON.stringify(data, null, 2) : '';
}

/** Names and types go into MIME headers. */
function harmless({ filename, contentType, base64 }: Attachment): Attachment {
  const clean = (text: string) => text.replace(/[\p{Cc}"]+/gu, ' ').trim();
  return { filename: clean(filename), contentType: clean(contentType), base64 };
}
