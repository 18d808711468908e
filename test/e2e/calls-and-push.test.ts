import twilio from 'twilio';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTwilioRecorder, type TwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, types } from './journeys.js';

/** Calls and push messages, from the request to the provider and back, through the running product. */
const PUBLIC = 'https://waybill.example.com';
let waybill: WaybillProcess;
let phone: TwilioRecorder;
let api: ReturnType<typeof client>;

beforeAll(async () => {
  [waybill, phone] = await Promise.all([startWaybill({ env: { WAYBILL_PUBLIC_URL: PUBLIC } }), startTwilioRecorder()]);
  api = client(waybill);
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await phone?.close();
});

describe('a call', () => {
  it('is made, and the delivery is DELIVERED when the key is pressed', async () => {
    const { id } = await api.destination('VOICE', {
      voice: {
        service: 'twilio',
        accountSid: phone.accountSid,
        authToken: phone.authToken,
        endpoint: phone.url,
        from: '+14155552672',
        to: '+14155552671',
        confirm: { prompt: 'Press 1 to confirm.', thanks: 'Thank you.' },
      },
    });
    const sent = await api.until((await api.request({ to: [{ destinationId: id }] })).id, 'SENT');
    expect(sent.attempts).toMatchObject([{ channel: 'VOICE', provider: 'twilio', status: 'SUCCEEDED' }]);
    const [call] = phone.calls;
    const url = /<Redirect>([^<]+)</.exec(call?.Twiml ?? '')?.[1]?.replaceAll('&#38;', '&') ?? '';
    expect(url.startsWith(`${PUBLIC}/callbacks/twilio/${id}?`)).toBe(true);
    const fields = { CallSid: call?.sid ?? '', CallStatus: 'in-progress', Digits: '1', To: '+14155552671' };
    const answer = await fetch(url.replace(PUBLIC, waybill.url), {
      method: 'POST',
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'x-twilio-signature': twilio.getExpectedTwilioSignature(phone.authToken, url, fields),
      },
      body: new URLSearchParams(fields).toString(),
    });
    expect(answer.status).toBe(200);
    expect(await answer.text()).toContain('Thank you.');
    const done = await api.until(sent.id, 'DELIVERED');
    expect(types(done)).toEqual(['DeliveryRequested', 'AttemptStarted', 'AttemptSucceeded', 'Delivered']);
  });
});
