import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { TwilioAdapter } from '../../../src/channels/adapters/twilio.js';
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
import { recording, refusing } from './peers.js';

const content: Content = { text: 'Your code is K-4711' };
const QUOTE = `Your code is K-4711 ${MAGIC_NUMBERS.valid} f00dfacef00dfacef00dfacef00dface`;

const REACTIONS = refusing((status) => twilioError(status, TWILIO_ERRORS[status] ?? 0, QUOTE), 3);

conforms({
  name: 'twilio',
  create: (egress) => new TwilioAdapter(egress),
  async start() {
    const recorder = await startTwilioRecorder();
    return recording(recorder, twilioConfig(recorder), REACTIONS);
  },
  bad: [
    { change: { service: 'pager' }, path: 'service' },
    { change: { accountSid: 'AC123' }, path: 'accountSid' },
    { change: { authToken: '' }, path: 'authToken' },
    { change: { to: '0151 2345678' }, path: 'to' },
    { change: { to: '+1234567' }, path: 'to' },
    { change: { to: ['+14155552671'] }, path: 'to' },
    { change: { from: 'A name that is too long' }, path: 'from' },
    { change: { endpoint: 'http://10.1.2.3' }, path: 'endpoint' },
    { change: { bodyTemplate: '{{ a | no_such_filter }}' }, path: 'bodyTemplate' },
  ],
  refusals: [
    { when: '21211', behave: (peer) => peer.answer(twilioError(400, 21211, QUOTE)), category: 'VALIDATION' },
    { when: '21408', behave: (peer) => peer.answer(twilioError(400, 21408, QUOTE)), category: 'CONFIGURATION' },
    { when: '21610', behave: (peer) => peer.answer(twilioError(400, 21610, QUOTE)), category: 'PERMANENT' },
    { when: '21611', behave: (peer) => peer.answer(twilioError(429, 21611, QUOTE)), category: 'RATE_LIMIT' },
  ],
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
  addresses: { good: '+4915123456789', bad: '015123456789' },
  content,
  confidential: ['K-4711', MAGIC_NUMBERS.valid, 'f00dfacef00dface'],
  retryAfterMs: 3_000,
});

describe('twilio', () => {
  let recorder: TwilioRecorder;
  let egress: Egress;
  let adapter: TwilioAdapter;

  beforeEach(async () => {
    recorder = await startTwilioRecorder();
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new TwilioAdapter(egress);
  });
  afterEach(async () => {
    await recorder.close();
    await egress.destroy();
  });
  const send = (change: JsonObject = {}, message: Content = content) =>
    adapter.send(messageOf(twilioConfig(recorder, change), message), options());

  it('sends the text as it is', async () => {
    const outcome = await send({}, { text: 'Grüße {{name}} & co' });
    const [message] = recorder.received;
    expect(message).toMatchObject({ To: '+14155552671', From: MAGIC_NUMBERS.valid, Body: 'Grüße {{name}} & co' });
    expect(outcome).toEqual({ kind: 'accepted', delivered: false, providerMessageId: message?.sid });
  });

  it('sends the template of the destination instead, if it has one', async () => {
    await send({ bodyTemplate: 'Total {{total}}' }, { text: 'not this', data: { total: 3 } });
    expect(recorder.received[0]?.Body).toBe('Total 3');
    expect(await send({ bodyTemplate: '{{missing}}' })).toMatchObject({ code: 'TEMPLATE_ERROR' });
  });

  it('sends through a messaging service', async () => {
    const from = `MG${'a'.repeat(32)}`;
    expect(adapter.validate(twilioConfig(recorder, { from }))).toEqual([]);
    await send({ from });
    expect(recorder.received[0]).toMatchObject({ MessagingServiceSid: from });
    expect(recorder.received[0]).not.toHaveProperty('From');
  });

  it.each([
    ['', 'EMPTY_BODY'],
    [' \n', 'EMPTY_BODY'],
    ['x'.repeat(1_601), 'TOO_LARGE'],
  ])('does not trouble Twilio with a text it cannot take (%#)', async (text, code) => {
    expect(await send({}, { text })).toMatchObject({ kind: 'rejected', category: 'VALIDATION', code });
    expect(recorder.requests).toHaveLength(0);
  });

  it.each([
    [{ to: MAGIC_NUMBERS.invalid }, 'VALIDATION', 'TWILIO_21211'],
    [{ to: MAGIC_NUMBERS.noRoute }, 'PERMANENT', 'TWILIO_21612'],
    [{ to: MAGIC_NUMBERS.noPermission }, 'CONFIGURATION', 'TWILIO_21408'],
    [{ to: MAGIC_NUMBERS.optedOut }, 'PERMANENT', 'TWILIO_21610'],
    [{ to: MAGIC_NUMBERS.notMobile }, 'VALIDATION', 'TWILIO_21614'],
    [{ from: MAGIC_NUMBERS.senderNotOwned }, 'CONFIGURATION', 'TWILIO_21606'],
    [{ from: MAGIC_NUMBERS.senderQueueFull }, 'RATE_LIMIT', 'TWILIO_21611'],
    [{ authToken: 'wrong' }, 'AUTHENTICATION', 'TWILIO_20003'],
  ])('takes the answer to %j for %s', async (change, category, code) => {
    const outcome = await send(change);
    expect(outcome).toMatchObject({ kind: 'rejected', category, code });
    expect(JSON.stringify(outcome)).not.toContain('+1500');
  });

  it('is in doubt when the answer stays away', async () => {
    recorder.respond = () => 'drop';
    expect(await send()).toMatchObject({ category: 'NETWORK', inDoubt: true });
  });

  describe('looks for a message whose end nobody knows', () => {
    const since = () => new Date();
    const lookup = (change: JsonObject = {}, at = since()) =>
      adapter.lookup(messageOf(twilioConfig(recorder, change), content), { ...options(), since: at });

    it('and finds it, also while the answer to its sending is still awaited', async () => {
      recorder.respond = (request) => {
        if (request.method === 'GET') return undefined;
        recorder.answer(request);
        return 'drop';
      };
      const startedAt = since();
      expect(await send()).toMatchObject({ inDoubt: true });
      const providerMessageId = recorder.received[0]?.sid;
      expect(await lookup({}, startedAt)).toEqual({ kind: 'found', providerMessageId, delivered: false });
      expect(recorder.requests.at(-1)?.path).toContain('To=%2B14155552671');
    });

    it('and knows that it is not there', async () => {
      expect(await lookup()).toEqual({ kind: 'not-found' });
      await send({ to: '+14155552672' });
      await send({ from: '12345' });
      expect(await lookup()).toEqual({ kind: 'not-found' });
    });

    it('also when a messaging service has sent it', async () => {
      const from = `MG${'a'.repeat(32)}`;
      await send();
      expect(await lookup({ from })).toEqual({ kind: 'not-found' });
      await send({ from });
      expect(await lookup({ from })).toMatchObject({ kind: 'found', providerMessageId: recorder.received[1]?.sid });
    });

    it('and does not take an earlier or a later one for it', async () => {
      await send();
      expect(await lookup({}, new Date(Date.now() + 60_000))).toEqual({ kind: 'not-found' });
      expect(await lookup({}, new Date(Date.now() - 60_000))).toEqual({ kind: 'not-found' });
    });

    it.each<[string, () => Promise<unknown>]>([
      ['two that are alike', () => Promise.all([send(), send()])],
      ['one whose text Twilio may have changed', () => send({}, { text: 'Your code is 4712' })],
      ['more than are looked through', () => Promise.all(Array.from({ length: 50 }, () => send({}, { text: 'x' })))],
    ])('and says that it cannot tell: %s', async (_, before) => {
      await before();
      expect(await lookup()).toEqual({ kind: 'unknown' });
    });

    it.each<[string, Reaction]>([
      ['an error', twilioError(500, 20500, 'Internal')],
      ['no answer', 'drop'],
      ['something else', { body: 'not json' }],
    ])('and says that it cannot tell: Twilio gives %s', async (_, reaction) => {
      recorder.respond = () => reaction;
      expect(await lookup()).toEqual({ kind: 'unknown' });
    });
  });

  it('finds wrong credentials without sending', async () => {
    const { ok, problems } = await adapter.test(twilioConfig(recorder, { authToken: 'wrong' }), options());
    expect(ok).toBe(false);
    expect(problems).toEqual([{ path: 'authToken', problem: 'Twilio answered 401' }]);
  });
});
