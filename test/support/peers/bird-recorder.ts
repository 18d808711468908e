import { startRecorder } from './recorder.js';

export interface BirdMessage {
  readonly originator: string;
  readonly recipients: readonly string[];
  readonly body: string;
  readonly datacoding: string;
  readonly reference: string;
}

/** Answers as https://developers.messagebird.com/api/sms-messaging/ says. */
export const startBirdRecorder = (accessKey: string) =>
  startRecorder<BirdMessage>(({ method, path, headers, raw }, accept) => {
    if (headers.authorization !== `AccessKey ${accessKey}`)
      return birdError(401, 2, 'Request not allowed (incorrect access_key)', 'access_key');
    if (method === 'GET' && path === '/balance') return { body: { payment: 'prepaid', type: 'euros', amount: 10 } };
    if (method !== 'POST' || path !== '/messages') return birdError(404, 98, 'API not found', null);
    const message = JSON.parse(raw) as BirdMessage;
    if (!message.recipients?.every((number) => /^\d{7,15}$/.test(number)))
      return birdError(422, 10, 'no (correct) recipients found', 'recipients');
    accept(message);
    return { status: 201, body: { id: crypto.randomUUID().replaceAll('-', ''), ...message } };
  });

/** `{"errors":[…]}`, the one form of Bird's refusals. */
export const birdError = (status: number, code: number, description: string, parameter: string | null = null) => ({
  status,
  body: { errors: [{ code, description, parameter }] },
});
