import { randomBytes } from 'node:crypto';
import { type Answer, type Reaction, type RecordedRequest, startHttpPeer } from './http-peer.js';

/** The request body of POST /v3/mail/send, as far as Waybill uses it. */
export interface SendGridMail {
  readonly personalizations: { readonly to: { readonly email: string; readonly name?: string }[] }[];
  readonly from: { readonly email: string; readonly name?: string };
  readonly subject: string;
  readonly content: { readonly type: string; readonly value: string }[];
  readonly attachments?: { readonly filename: string; readonly type: string; readonly content: string }[];
  readonly custom_args?: Readonly<Record<string, string>>;
}

export interface SendGridRecorder {
  /** To be given as `endpoint`. */
  readonly url: string;
  readonly port: number;
  readonly apiKey: string;
  /** All requests, also the refused ones. */
  readonly requests: RecordedRequest[];
  /** The messages that were accepted. */
  readonly received: SendGridMail[];
  /** Answers instead of SendGrid; undefined lets the request through. */
  respond: (request: RecordedRequest) => Reaction | undefined;
  close(): Promise<void>;
}

/**
 * Records messages and answers as SendGrid's v3 API is documented to
 * (https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send and .../how-to-use-the-sendgrid-v3-api/errors).
 */
export async function startSendGridRecorder(
  options: { readonly port?: number; readonly apiKey?: string } = {},
): Promise<SendGridRecorder> {
  const apiKey = options.apiKey ?? 'SG.recorder-key';
  const received: SendGridMail[] = [];
  const peer = await startHttpPeer((request) => recorder.respond(request) ?? answer(request), options);
  const recorder: SendGridRecorder = {
    url: peer.origin,
    port: peer.port,
    apiKey,
    requests: peer.received,
    received,
    respond: () => undefined,
    close: peer.close,
  };

  function answer({ method, path, headers, raw }: RecordedRequest): Answer {
    if (headers.authorization !== `Bearer ${apiKey}`) {
      return sendGridError(401, 'The provided authorization grant is invalid, expired, or revoked');
    }
    if (method === 'GET' && path === '/v3/scopes') return { body: { scopes: ['mail.send', 'user.profile.read'] } };
    if (method !== 'POST' || path !== '/v3/mail/send') return sendGridError(404, 'Resource not found');
    const mail = JSON.parse(raw) as SendGridMail;
    const refusal = refusalOf(mail);
    if (refusal) return refusal;
    received.push(mail);
    return { status: 202, headers: { 'x-message-id': randomBytes(11).toString('base64url') } };
  }
  return recorder;
}

/** `{"errors":[…]}`, the one form of SendGrid's refusals. */
export function sendGridError(status: number, message: string, field: string | null = null): Answer {
  return { status, body: { errors: [{ message, field, help: null }] } };
}

function refusalOf({ personalizations, from, subject, content }: Partial<SendGridMail>): Answer | undefined {
  const addresses = personalizations?.flatMap(({ to }) => to.map(({ email }) => email.toLowerCase())) ?? [];
  if (addresses.length === 0) {
    return sendGridError(400, 'The personalizations field is required and must have at least one personalization.');
  }
  if (new Set(addresses).size !== addresses.length) {
    return sendGridError(400, 'Each email address in the personalization block should be unique', 'personalizations');
  }
  if (!from?.email) return sendGridError(400, 'The from object must be provided for every email send.', 'from.email');
  if (!subject) return sendGridError(400, 'The subject is required.', 'subject');
  if (!content?.length || content.some(({ value }) => value === '')) {
    return sendGridError(
      400,
      'The content value must be a string at least one character in length.',
      'content.0.value',
    );
  }
  return undefined;
}
