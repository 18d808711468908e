import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TwilioVoiceAdapter } from '../../../src/channels/adapters/twilio-voice.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import {
  MAGIC_NUMBERS,
  startTwilioRecorder,
  TWILIO_ERRORS,
  type TwilioRecorder,
  twilioConfig,
  twilioError,
} from '../../support/peers/twilio-recorder.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { answering, refusing } from './peers.js';

const content: Content = { text: 'The server room is on fire' };
const QUOTE = `server room is on fire ${MAGIC_NUMBERS.valid} f00dfacef00dfacef00dfacef00dface`;

const REACTIONS = refusing((status) => twilioError(status, TWILIO_ERRORS[status] ?? 0, QUOTE), 4);

conforms({
  name: 'twilio voice',
  create: (egress) => new TwilioVoiceAdapter(egress),
  async start() {
    const recorder = await startTwilioRecorder();
    return answering(recorder, twilioConfig(recorder), REACTIONS, {
      seen: () => recorder.requests.length,
      accepted: () => recorder.calls.length,
    });
  },
  bad: [
    { change: { accountSid: 'AC123' }, path: 'accountSid' },
    { change: { from: 'Waybill' }, path: 'from' },
    { change: { to: '112' }, path: 'to' },
    { change: { language: 'German' }, path: 'language' },
    { change: { voice: 'a "voice"' }, path: 'voice' },
    { change: { repeat: 0 }, path: 'repeat' },
    { change: { ringSeconds: 1 }, path: 'ringSeconds' },
    { change: { machineDetection: 'maybe' }, path: 'machineDetection' },
    { change: { endpoint: 'http://10.1.2.3' }, path: 'endpoint' },
    { change: { bodyTemplate: '{% if %}' }, path: 'bodyTemplate' },
  ],
  refusals: [
    {
      when: 'a suspended account',
      behave: (peer) => peer.answer(twilioError(401, 20005, QUOTE)),
      category: 'AUTHENTICATION',
    },
    {
      when: 'too many calls at once',
      behave: (peer) => peer.answer(twilioError(429, 10004, QUOTE)),
      category: 'RATE_LIMIT',
      code: 'TWILIO_10004',
    },
    {
      when: 'an unverified caller',
      behave: (peer) => peer.answer(twilioError(400, 21210, QUOTE)),
      category: 'CONFIGURATION',
    },
    { when: 'no route', change: { to: MAGIC_NUMBERS.noRoute }, category: 'PERMANENT', code: 'TWILIO_21214' },
    {
      when: 'no permission',
      change: { to: MAGIC_NUMBERS.noPermission },
      category: 'CONFIGURATION',
      code: 'TWILIO_21215',
    },
    { when: 'a blocked number', change: { to: MAGIC_NUMBERS.optedOut }, category: 'PERMANENT', code: 'TWILIO_21216' },
    { when: 'a wrong number', change: { to: MAGIC_NUMBERS.invalid }, category: 'VALIDATION', code: 'TWILIO_21217' },
  ],
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
  addresses: { good: '+4915123456789', bad: '015123456789' },
  content,
  confidential: ['server room is on fire', MAGIC_NUMBERS.valid, 'f00dfacef00dface'],
  retryAfterMs: 4_000,
});

describe('a call through twilio', () => {
  let recorder: TwilioRecorder;
  let egress: Egress;
  let adapter: TwilioVoiceAdapter;
  beforeEach(async () => {
    recorder = await startTwilioRecorder();
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new TwilioVoiceAdapter(egress);
  });
  afterEach(async () => {
    await recorder.close();
    await egress.destroy();
  });
  const send = (change: JsonObject = {}, message: Content = content) =>
    adapter.send(messageOf(twilioConfig(recorder, change), message), options());

  it('says the text in the language and with the voice of the configuration', async () => {
    const outcome = await send(
      { language: 'de-DE', voice: 'Polly.Vicki', repeat: 3, ringSeconds: 20 },
      { text: ' Grüße ' },
    );
    const [call] = recorder.calls;
    expect(call).toMatchObject({
      To: '+14155552671',
      From: MAGIC_NUMBERS.valid,
      Timeout: '20',
      Twiml: '<Response><Say language="de-DE" voice="Polly.Vicki" loop="3">Grüße</Say></Response>',
    });
    expect(outcome).toEqual({ kind: 'accepted', delivered: false, providerMessageId: call?.sid });
  });

  it('says the template of the destination instead, if it has one', async () => {
    await send({ bodyTemplate: 'Room {{room}}' }, { text: 'not this', data: { room: 12 } });
    expect(recorder.calls[0]?.Twiml).toContain('>Room 12<');
    expect(await send({ bodyTemplate: '{{missing}}' })).toMatchObject({ code: 'TEMPLATE_ERROR' });
    expect(await send({}, { text: ' ' })).toMatchObject({ code: 'EMPTY_BODY' });
  });

  it('lets no text become an instruction', async () => {
    const text = `</Say><Dial>+900123</Dial><Say voice='x'> & "so" on\u0000\u0007\ud800 😀`;
    await send({}, { text });
    const twiml = recorder.calls[0]?.Twiml ?? '';
    expect(twiml.match(/<[^>]*>/g)).toEqual(['<Response>', '<Say language="en-US">', '</Say>', '</Response>']);
    const said = twiml
      .replace(/<[^>]*>/g, '')
      .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)));
    expect(said).toBe(`</Say><Dial>+900123</Dial><Say voice='x'> & "so" on 😀`);
  });

  it('counts what Twilio counts: characters of TwiML, after escaping', async () => {
    const room = 4_000 - '<Response><Say language="en-US"></Say></Response>'.length;
    expect(await send({}, { text: 'x'.repeat(room) })).toMatchObject({ kind: 'accepted' });
    expect(await send({}, { text: 'x'.repeat(room + 1) })).toMatchObject({ category: 'VALIDATION', code: 'TOO_LARGE' });
    expect(await send({}, { text: '&'.repeat(room / 5 + 1) })).toMatchObject({ code: 'TOO_LARGE' });
    expect(recorder.calls).toHaveLength(1);
  });

  describe('that is to be confirmed', () => {
    const confirm = { prompt: 'Press {{key}} & wait', digit: '5', seconds: 7 };
    const callbackUrl = 'https://waybill.example.com/callbacks/twilio/d1';
    const ask = (change: JsonObject = {}, more: { callbackUrl?: string } = { callbackUrl }) =>
      adapter.send(
        messageOf(twilioConfig(recorder, { confirm: { ...confirm, ...change } }), content, {
          personalization: { key: 5 },
          ...more,
        }),
        options(),
      );

    it('asks for a key and says where it was pressed, or that it was not', async () => {
      expect(await ask()).toMatchObject({ kind: 'accepted' });
      const url = `${callbackUrl}?delivery=delivery-1&#38;attempt=attempt-0001`;
      const say = (text: string) => `<Say language="en-US">${text}</Say>`;
      expect(recorder.calls[0]?.Twiml).toBe(
        `<Response><Gather input="dtmf" numDigits="1" timeout="7" action="${url}&#38;asked=1">${say(
          'The server room is on fire',
        )}${say('Press 5 &#38; wait')}</Gather><Redirect>${url}&#38;asked=1</Redirect></Response>`,
      );
      expect(recorder.requests[0]?.raw).toContain(
        `StatusCallback=${encodeURIComponent(`${callbackUrl}?delivery=delivery-1&attempt=attempt-0001`)}`,
      );
    });

    it('is not made where no answer could come back', async () => {
      expect(await ask({}, {})).toMatchObject({ category: 'CONFIGURATION', code: 'NO_PUBLIC_URL' });
      expect(await ask({ prompt: '{{nobody}}' })).toMatchObject({ code: 'TEMPLATE_ERROR' });
      expect(recorder.calls).toHaveLength(0);
    });

    it.each([
      [{ prompt: '' }, 'confirm.prompt'],
      [{ digit: '12' }, 'confirm.digit'],
      [{ seconds: 0 }, 'confirm.seconds'],
      [{ colour: 1 }, 'confirm.colour'],
    ])('has a good configuration: not %j', (change, path) => {
      const problems = adapter.validate(twilioConfig(recorder, { confirm: { ...confirm, ...change } }));
      expect(problems.map((problem) => problem.path)).toEqual([path]);
    });
  });

  describe('whose end nobody knows', () => {
    const lookup = (change: JsonObject = {}, since = new Date()) =>
      adapter.lookup(messageOf(twilioConfig(recorder, change), content), { ...options(), since });

    it('was not made when nobody was called at that time', async () => {
      expect(await lookup()).toEqual({ kind: 'not-found' });
      await send({ to: '+14155552672' });
      expect(await lookup()).toEqual({ kind: 'not-found' });
      await send();
      expect(await lookup({}, new Date(Date.now() + 60_000))).toEqual({ kind: 'not-found' });
      expect(await lookup({}, new Date(Date.now() - 60_000))).toEqual({ kind: 'not-found' });
    });

    it('may have been made when somebody was: Twilio does not say what the call was about', async () => {
      await send();
      expect(await lookup()).toEqual({ kind: 'unknown' });
    });

    it('may have been made when there are more calls than are looked through', async () => {
      await Promise.all(Array.from({ length: 50 }, () => send()));
      expect(await lookup({}, new Date(Date.now() - 60_000))).toEqual({ kind: 'unknown' });
    });

    it.each<[string, Reaction]>([
      ['an error', twilioError(500, 20500, 'Internal')],
      ['no answer', 'drop'],
      ['something else', { body: 'not json' }],
    ])('may have been made when Twilio gives %s', async (_, reaction) => {
      recorder.respond = () => reaction;
      expect(await lookup()).toEqual({ kind: 'unknown' });
    });
  });

  it('finds wrong credentials without calling anybody', async () => {
    const { ok, problems } = await adapter.test(twilioConfig(recorder, { authToken: 'wrong' }), options());
    expect(ok).toBe(false);
    expect(problems).toEqual([{ path: 'authToken', problem: 'Twilio answered 401' }]);
  });
});
