import type { KeyObject } from 'node:crypto';
import { type GoogleTokens, googleTokens } from './google-tokens.js';
import type { Answer } from './http-peer.js';
import { type Recorder, startRecorder } from './recorder.js';

export interface FcmMessage {
  readonly token?: string;
  readonly topic?: string;
  readonly notification?: { readonly title?: string; readonly body?: string };
  readonly data?: Readonly<Record<string, string>>;
  readonly android?: Readonly<Record<string, unknown>>;
  readonly apns?: { readonly headers: Readonly<Record<string, string>> };
}

export interface FcmRecorder extends Recorder<FcmMessage> {
  readonly projectId: string;
  readonly tokens: GoogleTokens;
  /** Devices that have removed the app. */
  readonly gone: Set<string>;
}

/**
 * Answers as FCM HTTP v1 is documented to (https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send,
 * .../v1/ErrorCode). Tokens that contain `invalid` never were tokens.
 */
export async function startFcmRecorder(publicKey: KeyObject): Promise<FcmRecorder> {
  const projectId = 'hospital-app';
  const tokens = googleTokens(publicKey);
  const gone = new Set<string>();
  const recorder = await startRecorder<FcmMessage>((request, accept) => {
    const { path, headers, raw } = request;
    if (path === '/token') return tokens.answer(request);
    if (!headers.authorization?.startsWith('Bearer ya29.token-'))
      return fcmError(401, 'UNAUTHENTICATED', 'Request had invalid authentication credentials.');
    if (path !== `/v1/projects/${projectId}/messages:send`) return fcmError(404, 'NOT_FOUND', 'Project was not found.');
    const { message, validate_only: isTest } = JSON.parse(raw) as { message: FcmMessage; validate_only?: boolean };
    const { token = '' } = message;
    if (token.includes('invalid')) {
      const detail = {
        '@type': 'type.googleapis.com/google.rpc.BadRequest',
        fieldViolations: [{ field: 'message.token' }],
      };
      const words = 'The registration token is not a valid FCM registration token';
      return fcmError(400, 'INVALID_ARGUMENT', words, 'INVALID_ARGUMENT', detail);
    }
    if (gone.has(token)) return fcmError(404, 'NOT_FOUND', 'Requested entity was not found.', 'UNREGISTERED');
    if (!isTest) accept(message);
    return { body: { name: `projects/${projectId}/messages/${isTest ? 'fake_message_id' : crypto.randomUUID()}` } };
  });
  return Object.assign(recorder, { projectId, tokens, gone });
}

export const fcmError = (
  code: number,
  status: string,
  message: string,
  errorCode?: string,
  ...more: object[]
): Answer => ({
  status: code,
  body: {
    error: {
      code,
      status,
      message,
      details: [
        ...more,
        ...(errorCode === undefined
          ? []
          : [{ '@type': 'type.googleapis.com/google.firebase.fcm.v1.FcmError', errorCode }]),
      ],
    },
  },
});
