import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SlackAdapter } from '../../../src/channels/adapters/slack.js';
import { Egress } from '../../../src/channels/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { type SlackRecorder, slackError, startSlackRecorder } from '../../support/peers/slack-recorder.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';

const TOKEN = 'xoxb-0000000000-t0ken-of-the-app';
const content: Content = { text: 'Report for Ada Lovelace' };
const QUOTE = `${TOKEN} Ada Lovelace`;

const REACTIONS: Readonly<Record<Behaviour, Reaction | undefined>> = {
  accepts: undefined,
  unavailable: { status: 503, body: QUOTE },
  unauthorized: slackError('invalid_auth'),
  limited: { status: 429, headers: { 'retry-after': '9' }, body: { ok: false, error: 'ratelimited' } },
  silent: 'silence',
  drops: 'drop',
};
const configOf = ({ origin }: SlackRecorder, change: JsonObject = {}): JsonObject => ({
  token: TOKEN,
  channel: 'C0123456789',
  endpoint: `${origin}/api`,
  ...change,
});

conforms({
  name: 'slack',
  create: (egress) => new SlackAdapter(egress),
  async start() {
    const recorder = await startSlackRecorder(TOKEN);
    return {
      config: configOf(recorder),
      port: recorder.port,
      answer: (reaction: Reaction) => {
        recorder.respond = () => reaction;
      },
      behave: (behaviour: Behaviour) => {
        recorder.respond = () => REACTIONS[behaviour];
      },
      seen: () => recorder.received.length,
      accepted: () => recorder.posted.length,
      close: recorder.close,
    };
  },
  bad: [
    { change: { token: 'Bearer x' }, path: 'token' },
    { change: { channel: 'General Chat' }, path: 'channel' },
    { change: { threadTs: 'yesterday' }, path: 'threadTs' },
    { change: { mentions: ['everybody'] }, path: 'mentions.0' },
    { change: { endpoint: 'http://10.0.0.1' }, path: 'endpoint' },
    { change: { bodyTemplate: '{{ a' }, path: 'bodyTemplate' },
  ],
  refusals: [
    {
      when: 'channel_not_found',
      behave: (peer) => peer.answer(slackError('channel_not_found')),
      category: 'CONFIGURATION',
    },
    { when: 'is_archived', behave: (peer) => peer.answer(slackError('is_archived')), category: 'PERMANENT' },
    { when: 'msg_too_long', behave: (peer) => peer.answer(slackError('msg_too_long')), category: 'VALIDATION' },
    { when: 'internal_error', behave: (peer) => peer.answer(slackError('internal_error')), category: 'TEMPORARY' },
    {
      when: 'something new',
      behave: (peer) => peer.answer(slackError(QUOTE)),
      category: 'PERMANENT',
      code: 'HTTP_200',
    },
    {
      when: 'no JSON',
      behave: (peer) => peer.answer({ body: QUOTE }),
      category: 'TEMPORARY',
      code: 'UNREADABLE_ANSWER',
    },
    {
      when: 'no text',
      change: { bodyTemplate: ' ' },
      behave: (peer) => peer.answer(slackError('no_text')),
      category: 'VALIDATION',
    },
  ],
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}/api` }),
  addresses: { good: 'C9876543210', bad: 'C 1' },
  content,
  confidential: [TOKEN, 'Ada Lovelace'],
  retryAfterMs: 9_000,
});

describe('slack', () => {
  let recorder: SlackRecorder;
  let egress: Egress;
  let adapter: SlackAdapter;
  beforeEach(async () => {
    recorder = await startSlackRecorder(TOKEN);
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new SlackAdapter(egress);
  });
  afterEach(async () => {
    await recorder.close();
    await egress.close();
  });
  const send = (change: JsonObject = {}, more: Content = content) =>
    adapter.send(messageOf(configOf(recorder, change), more), options());

  it('posts text with mentions into a thread', async () => {
    const outcome = await send(
      {
        threadTs: '1700000000.000100',
        mentions: ['U0AAAAAAA', 'S0BBBBBBB', 'here'],
        bodyTemplate: '{{ total }} events',
      },
      { data: { total: 42 } },
    );
    expect(recorder.posted[0]).toMatchObject({
      channel: 'C0123456789',
      thread_ts: '1700000000.000100',
      text: '<@U0AAAAAAA> <!subteam^S0BBBBBBB> <!here> 42 events',
    });
    expect(outcome).toMatchObject({
      kind: 'accepted',
      delivered: false,
      providerMessageId: expect.stringMatching(/^\d+\.\d+$/),
    });
  });

  it('posts blocks of the request', async () => {
    const blocks = [{ type: 'section', text: { type: 'mrkdwn', text: '*hi*' } }];
    await send({}, { subject: 'Fallback', data: { blocks } });
    expect(recorder.posted[0]).toMatchObject({ blocks, text: '*Fallback*' });
  });

  it('puts attachments as files into the thread of the message', async () => {
    const base64 = Buffer.from('a;b\n').toString('base64');
    await send({}, { text: 'x', attachments: [{ filename: 'a.csv', contentType: 'text/csv', base64 }] });
    expect(recorder.files).toEqual([
      { title: 'a.csv', text: 'a;b\n', channel: 'C0123456789', thread: recorder.times[0] },
    ]);
  });

  it('warns when a file fails after the message, which is not sent a second time', async () => {
    recorder.respond = ({ path }) =>
      path.includes('getUploadURL') ? slackError('file_upload_size_restricted') : undefined;
    const outcome = await send({}, { text: 'x', attachments: [{ filename: 'a', contentType: 'a/b', base64: 'YQ==' }] });
    expect(outcome).toMatchObject({ kind: 'accepted', warning: expect.stringContaining('a file of it is not') });
    expect(recorder.posted).toHaveLength(1);
  });

  it('finds a token that is no good', async () => {
    const tested = await adapter.test(configOf(recorder, { token: 'xoxb-other-token' }), options());
    expect(tested).toMatchObject({ ok: false, problems: [{ path: 'token' }] });
  });
});
