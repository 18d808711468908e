import { startRecorder } from './recorder.js';

export interface ResendMail {
  readonly from: string;
  readonly to: readonly string[];
  readonly [field: string]: unknown;
}

/** Answers as https://resend.com/docs/api-reference says; a repeated Idempotency-Key gets the first answer. */
export function startResendRecorder(apiKey: string) {
  const answered = new Map<string, { readonly raw: string; readonly id: string }>();
  return startRecorder<ResendMail>(({ method, path, headers, raw }, accept) => {
    if (headers.authorization !== `Bearer ${apiKey}`) return resendError(403, 'invalid_api_key', 'API key is invalid');
    if (method === 'GET' && path === '/domains') {
      return resendError(401, 'restricted_api_key', 'This API key is restricted to only send emails');
    }
    if (method !== 'POST' || path !== '/emails') return resendError(404, 'not_found', 'Not found');
    const key = String(headers['idempotency-key'] ?? '');
    const earlier = answered.get(key);
    if (earlier && earlier.raw !== raw) {
      return resendError(409, 'invalid_idempotent_request', 'Same idempotency key used with a different payload');
    }
    if (earlier) return { body: { id: earlier.id } };
    const mail = JSON.parse(raw) as ResendMail;
    if (!mail.to?.length) return resendError(422, 'missing_required_field', 'Missing `to` field');
    if (!mail.text && !mail.html) return resendError(422, 'missing_required_field', 'Missing `html` or `text` field');
    const id = crypto.randomUUID();
    answered.set(key, { raw, id });
    accept(mail);
    return { body: { id } };
  });
}

/** https://resend.com/docs/api-reference/errors */
export const resendError = (statusCode: number, name: string, message: string) => ({
  status: statusCode,
  body: { statusCode, name, message },
});
