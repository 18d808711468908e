import { startRecorder } from './recorder.js';

export type MailgunForm = Readonly<Record<string, readonly string[]>>;

/** Answers as https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages says. */
export const startMailgunRecorder = (apiKey: string, domain: string) =>
  startRecorder<MailgunForm>(async ({ method, path, headers, raw }, accept) => {
    const credentials = Buffer.from(`api:${apiKey}`).toString('base64');
    if (headers.authorization !== `Basic ${credentials}`) return { status: 401, body: 'Forbidden' };
    if (method !== 'POST' || path !== `/v3/${domain}/messages`)
      return { status: 404, body: { message: 'Domain not found: ' } };
    const form = await new Response(raw, { headers: { 'content-type': headers['content-type'] ?? '' } }).formData();
    const fields: Record<string, string[]> = {};
    for (const [name, value] of form) {
      const text = typeof value === 'string' ? value : `${value.name} ${value.type} ${await value.text()}`;
      fields[name] = [...(fields[name] ?? []), text];
    }
    if (!fields.from) return { status: 400, body: { message: 'from parameter is missing' } };
    if (!fields.to) return { status: 400, body: { message: 'to parameter is missing' } };
    if (!fields.text && !fields.html)
      return { status: 400, body: { message: "Need at least one of 'text' or 'html'" } };
    accept(fields);
    return { body: { id: `<${Date.now()}.1@${domain}>`, message: 'Queued. Thank you.' } };
  });

/** `{"message": "…"}`, the form of Mailgun's refusals. */
export const mailgunError = (status: number, message: string) => ({ status, body: { message } });
