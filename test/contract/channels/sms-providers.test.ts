import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BirdAdapter } from '../../../src/channels/adapters/bird.js';
import { SnsAdapter } from '../../../src/channels/adapters/sns.js';
import type { ChannelAdapter } from '../../../src/channels/channel.js';
import { costOf, problemWithNumber, segmentsOf } from '../../../src/channels/messages/sms.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { snsError, startAwsRecorder } from '../../support/peers/aws-recorder.js';
import { birdError, startBirdRecorder } from '../../support/peers/bird-recorder.js';
import { type Answer } from '../../support/peers/http-peer.js';
import type { Recorder } from '../../support/peers/recorder.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { recording, refusing } from './peers.js';

const KEY = 'k3y-of-the-account';
const AWS = { region: 'eu-central-1', accessKeyId: 'AKIAEXAMPLE0000000', secretAccessKey: 'aws-s3cret-of-the-account' };
const content: Content = { text: 'Dear Ada Lovelace' };

interface Provider {
  readonly name: string;
  readonly create: (egress: Egress) => ChannelAdapter;
  readonly start: () => Promise<Recorder<unknown>>;
  readonly config: JsonObject;
  readonly refuse: (status: number, words: string) => Answer;
  readonly bad: readonly { readonly change: JsonObject; readonly path: string }[];
}

const providers: readonly Provider[] = [
  {
    name: 'sns',
    create: (egress) => new SnsAdapter(egress),
    start: () => startAwsRecorder(AWS.accessKeyId, AWS.region),
    config: { ...AWS, senderId: 'Waybill', to: '+14155552671' },
    refuse: (status, words) => snsError(status, status === 429 ? 'ThrottledException' : 'Unnamed', words),
    bad: [
      { change: { senderId: '12345678901234' }, path: 'senderId' },
      { change: { messageType: 'Urgent' }, path: 'messageType' },
      { change: { maxPrice: 0 }, path: 'maxPrice' },
    ],
  },
  {
    name: 'bird',
    create: (egress) => new BirdAdapter(egress, 'Waybill/test'),
    start: () => startBirdRecorder(KEY),
    config: { accessKey: KEY, from: 'Waybill', to: '+14155552671' },
    refuse: (status, words) => birdError(status, status === 401 ? 2 : 0, words),
    bad: [
      { change: { from: 'a name that is too long' }, path: 'from' },
      { change: { maxSegments: 10 }, path: 'maxSegments' },
    ],
  },
];

for (const provider of providers) {
  const secret = String(provider.config.secretAccessKey ?? provider.config.accessKey);
  const confidential = [secret, '+14155552671', 'Ada Lovelace'];
  const quote = confidential.join(' ');
  conforms({
    name: provider.name,
    create: provider.create,
    async start() {
      const recorder = await provider.start();
      const reactions = refusing((status) => provider.refuse(status, quote), 7);
      return recording(recorder, { service: provider.name, endpoint: recorder.url, ...provider.config }, reactions);
    },
    bad: [
      { change: { endpoint: 'http://192.168.0.1' }, path: 'endpoint' },
      { change: { to: '0800 123' }, path: 'to' },
      { change: { bodyTemplate: '{% if %}' }, path: 'bodyTemplate' },
      ...provider.bad,
    ],
    refusals: [],
    redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
    addresses: { good: '+14155552672', bad: '4155552672' },
    content,
    confidential,
    retryAfterMs: 7_000,
  });
}

describe('what each provider of text messages is given', () => {
  let egress: Egress;
  let recorder: Recorder<unknown>;
  beforeEach(() => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
  });
  afterEach(async () => {
    await recorder.close();
    await egress.destroy();
  });
  const start = async (name: string) => {
    const { create, start, config } = providers.find((each) => each.name === name) as Provider;
    recorder = await start();
    return (change: JsonObject = {}, message: Content = content) =>
      create(egress).send(
        messageOf({ service: name, endpoint: recorder.url, ...config, ...change }, message),
        options(),
      );
  };

  it('sns: number, text and attributes', async () => {
    const send = await start('sns');
    expect(await send({ maxPrice: 0.5 })).toMatchObject({
      kind: 'accepted',
      providerMessageId: expect.stringMatching(/-/),
    });
    const [received] = recorder.received as Record<string, string>[];
    expect(received).toMatchObject({ PhoneNumber: '+14155552671', Message: 'Dear Ada Lovelace' });
    const values = Object.values(received ?? {});
    for (const value of ['AWS.SNS.SMS.SenderID', 'Waybill', 'Transactional', 'AWS.SNS.SMS.MaxPrice', '0.5'])
      expect(values).toContain(value);
  });

  it('bird: the key of the attempt as reference, and unicode where the text needs it', async () => {
    const send = await start('bird');
    await send();
    await send({}, { text: 'Привет' });
    expect(recorder.received).toMatchObject([
      { originator: 'Waybill', recipients: ['14155552671'], datacoding: 'plain', reference: 'attempt-0001' },
      { body: 'Привет', datacoding: 'unicode' },
    ]);
  });

  it('no more segments than allowed', async () => {
    const send = await start('bird');
    expect(await send({ maxSegments: 2 }, { text: 'x'.repeat(307) })).toMatchObject({ code: 'TOO_LARGE' });
    expect(await send({ maxSegments: 2 }, { text: 'x'.repeat(306) })).toMatchObject({ kind: 'accepted' });
    expect(await send({}, {})).toMatchObject({ code: 'EMPTY_BODY' });
    expect(await send({ bodyTemplate: 'Hi {{name}}' })).toMatchObject({ code: 'TEMPLATE_ERROR' });
  });

  it.each<[string, Answer, string, string]>([
    ['bird', birdError(401, 2, 'incorrect access_key'), 'AUTHENTICATION', 'BIRD_2'],
    ['bird', birdError(422, 10, 'no (correct) recipients found'), 'VALIDATION', 'BIRD_10'],
    ['bird', birdError(422, 25, 'not enough balance'), 'CONFIGURATION', 'BIRD_25'],
    ['sns', snsError(400, 'OptedOut', 'opted out'), 'PERMANENT', 'AWS_OPTED_OUT'],
    ['sns', snsError(400, 'InvalidParameter', 'bad number'), 'VALIDATION', 'AWS_INVALID_PARAMETER'],
    ['sns', snsError(403, 'AuthorizationError', 'no'), 'AUTHENTICATION', 'AWS_AUTHORIZATION_ERROR'],
  ])('%s: %j is %s', async (name, answer, category, code) => {
    const send = await start(name);
    recorder.respond = () => answer;
    expect(await send()).toMatchObject({ kind: 'rejected', category, code });
  });
});

describe('a text is cut as the network cuts it', () => {
  it.each([
    ['', 'GSM-7', 0, 0],
    ['a'.repeat(160), 'GSM-7', 160, 1],
    ['a'.repeat(161), 'GSM-7', 161, 2],
    ['a'.repeat(306), 'GSM-7', 306, 2],
    ['a'.repeat(307), 'GSM-7', 307, 3],
    ['€'.repeat(80), 'GSM-7', 160, 1],
    // 152 places are used when the second half of a € would not fit into the 153rd.
    [`${'a'.repeat(152)}€${'a'.repeat(152)}`, 'GSM-7', 306, 3],
    ['я'.repeat(70), 'UCS-2', 70, 1],
    ['я'.repeat(71), 'UCS-2', 71, 2],
    ['😀'.repeat(35), 'UCS-2', 70, 1],
    [`${'я'.repeat(66)}😀${'я'.repeat(66)}`, 'UCS-2', 134, 3],
    ['naïve', 'UCS-2', 5, 1],
    ['Ünïcode', 'UCS-2', 7, 1],
    ['Grüße, ça va? @£¥', 'UCS-2', 17, 1],
    ['Grüße, Ça va? @£¥', 'GSM-7', 17, 1],
  ])('%s', (text, encoding, length, count) => {
    expect(segmentsOf(text)).toEqual({ encoding, length, count });
  });

  it('and charged by the part', () => expect(costOf('a'.repeat(161), 0.075)).toBeCloseTo(0.15));

  it.each([
    ['+14155552671', true],
    ['+442071838750', true],
    ['14155552671', false],
    ['+1415', false],
    ['+99914155552671', false],
    ['+1 415 555 2671', false],
  ])('%s is a number: %s', (text, good) => expect(problemWithNumber(text) === undefined).toBe(good));
});
