import type { IncomingHttpHeaders } from 'node:http';
import type { Answer } from './http-peer.js';
import { type Recorder, startRecorder } from './recorder.js';

export interface WnsNotification {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface WnsRecorder extends Recorder<WnsNotification> {
  readonly clientId: string;
  readonly clientSecret: string;
  /** Questions for a token so far, as forms. */
  readonly asked: Record<string, string>[];
}

/**
 * Answers as WNS and its token endpoints are documented to
 * (https://learn.microsoft.com/windows/apps/develop/notifications/push-notifications/push-request-response-headers).
 */
export async function startWnsRecorder(): Promise<WnsRecorder> {
  const [clientId, clientSecret] = ['846ec553-a005-41c0-8341-123456789012', 's3cret-of-the-app'];
  const asked: Record<string, string>[] = [];
  const recorder = await startRecorder<WnsNotification>(({ path, headers, raw }, accept) => {
    if (path === '/token') {
      const form = Object.fromEntries(new URLSearchParams(raw));
      asked.push(form);
      const isKnown = form.client_id === clientId && form.client_secret === clientSecret;
      if (!isKnown) return { status: 401, body: { error: 'invalid_client', error_description: 'Invalid client id' } };
      return { body: { access_token: `EgAcAQMAAAAALYAA-${asked.length}`, expires_in: 86_400, token_type: 'bearer' } };
    }
    if (!headers.authorization?.startsWith('Bearer EgAcAQMAAAAALYAA-')) return wnsError(401, 'The token is missing');
    if (!/^wns\/(toast|raw)$/.test(String(headers['x-wns-type']))) return wnsError(400, 'X-WNS-Type is missing');
    if (Buffer.byteLength(raw) > 5_000) return wnsError(413, 'The payload exceeds 5000 bytes');
    accept({ path, headers, body: raw });
    return {
      headers: {
        'x-wns-status': 'received',
        'x-wns-deviceconnectionstatus': 'connected',
        'x-wns-msg-id': crypto.randomUUID().replaceAll('-', '').slice(0, 16),
        'x-wns-debug-trace': 'DB5SCH101121221',
      },
    };
  });
  return Object.assign(recorder, { clientId, clientSecret, asked });
}

export const wnsError = (status: number, description: string, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'x-wns-error-description': description, 'x-wns-debug-trace': 'DB5SCH101121221', ...headers },
});
