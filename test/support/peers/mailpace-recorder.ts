import { startRecorder } from './recorder.js';

export interface MailpaceMail {
  readonly from: string;
  readonly to: string;
  readonly [field: string]: unknown;
}

/** Answers as https://docs.mailpace.com/reference/responses says. */
export const startMailpaceRecorder = (apiKey: string) =>
  startRecorder<MailpaceMail>(({ path, headers, raw }, accept) => {
    const token = headers['mailpace-server-token'];
    if (!token) return { status: 401, body: { error: 'Missing API Token' } };
    if (token !== apiKey) return { status: 400, body: { error: 'Invalid API Token' } };
    if (path !== '/send') return { status: 404, body: '' };
    const mail = JSON.parse(raw) as MailpaceMail;
    if (!mail.to) return { status: 400, body: { errors: { to: ['undefined field'] } } };
    if (!mail.textbody && !mail.htmlbody) return { status: 400, body: { errors: { textbody: ['undefined field'] } } };
    accept(mail);
    return { body: { id: 4_711, status: 'pending' } };
  });
