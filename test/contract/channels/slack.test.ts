import { createHmac } from 'node:crypto';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SlackAdapter } from '../../../src/channels/adapters/slack.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { type SlackRecorder, slackError, startSlackRecorder } from '../../support/peers/slack-recorder.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { answering, type Reactions } from './peers.js';

const TOKEN = 'xoxb-0000000000-t0ken-of-the-app';
const content: Content = { text: 'Report for Ada Lovelace' };
const QUOTE = `${TOKEN} Ada Lovelace`;

const REACTIONS: Reactions = {
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
    return answering(recorder, configOf(recorder), REACTIONS, {
      seen: () => recorder.received.length,
      accepted: () => recorder.posted.length,
    });
  },
  bad: [
    { change: { token: 'Bearer x' }, path: 'token' },
    { change: { channel: 'General Chat' }, path: 'channel' },
    { change: { threadTs: 'yesterday' }, path: 'threadTs' },
    { change: { mentions: ['everybody'] }, path: 'mentions.0' },
    { change: { endpoint: 'http://10.0.0.1' }, path: 'endpoint' },
    { change: { bodyTemplate: '{{ a' }, path: 'bodyTemplate' },
    { change: { signingSecret: 'a b' }, path: 'signingSecret' },
    { change: { approvals: { approvers: { ada: 'ada' } } }, path: 'approvals.approvers.ada' },
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

describe('answers in Slack', () => {
  const egress = new Egress({ allowedNetworks: LOOPBACK });
  afterAll(() => egress.close());
  const adapter = new SlackAdapter(egress);
  const SECRET = '8f742231b10e8888abcd99yyyzzz85a5';
  const config = {
    token: TOKEN,
    channel: 'C0123456789',
    signingSecret: SECRET,
    approvals: { approvers: { U1234567: 'ada' } },
  };
  const read = (body: string, headers: Record<string, string>, now = new Date(), own: JsonObject = config) =>
    adapter.parseCallback(
      { method: 'POST', url: 'https://waybill.example/', headers, body: Buffer.from(body), now },
      own,
    );
  const signed = (payload: object, now = new Date()) => {
    const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
    const seconds = String(Math.floor(now.getTime() / 1_000));
    const signature = `v0=${createHmac('sha256', SECRET).update(`v0:${seconds}:${body}`).digest('hex')}`;
    return { body, headers: { 'x-slack-request-timestamp': seconds, 'x-slack-signature': signature } };
  };
  const clicked = (more: object = {}) => ({
    type: 'block_actions',
    user: { id: 'U1234567' },
    container: { message_ts: '1700000000.000100' },
    actions: [{ action_id: 'waybill_approve' }],
    ...more,
  });

  it('are verified as the example in the documentation is', () => {
    // https://docs.slack.dev/authentication/verifying-requests-from-slack
    const body =
      'token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c';
    const headers = {
      'x-slack-request-timestamp': '1531420618',
      'x-slack-signature': 'v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503',
    };
    const then = new Date(1_531_420_618_000);
    expect(read(body, headers, then)).toEqual({ kind: 'verified', reports: [] });
    expect(read(`${body}&x=1`, headers, then)).toEqual({ kind: 'refused', reason: 'the signature is wrong' });
    expect(read(body, headers, new Date(then.getTime() + 300_000))).toHaveProperty('kind', 'verified');
    expect(read(body, headers, new Date(then.getTime() + 301_000))).toHaveProperty('kind', 'refused');
    expect(read(body, headers, then, { ...config, signingSecret: 'another' })).toHaveProperty('kind', 'refused');
    expect(read(body, {}, then)).toHaveProperty('kind', 'refused');
    const { signingSecret: _, ...without } = config;
    expect(read(body, headers, then, without)).toHaveProperty('kind', 'refused');
  });

  it('name the approver whom the configuration names, and nobody by an inherited name', () => {
    const answerOf = (payload: object) => {
      const { body, headers } = signed(payload);
      const callback = read(body, headers);
      return callback.kind === 'verified' ? callback.answer : callback;
    };
    expect(answerOf(clicked())).toMatchObject({
      outcome: 'approve',
      approver: 'ada',
      providerMessageId: '1700000000.000100',
    });
    expect(answerOf(clicked({ actions: [{ action_id: 'waybill_reject' }] }))).toMatchObject({ outcome: 'reject' });
    for (const id of ['U7654321', 'constructor', '__proto__'])
      expect(answerOf(clicked({ user: { id } }))).not.toHaveProperty('approver');
    expect(answerOf(clicked({ actions: [{ action_id: 'other' }] }))).toBeUndefined();
    expect(answerOf(clicked({ type: 'view_submission' }))).toBeUndefined();
    expect(answerOf(clicked({ container: {} }))).toBeUndefined();
  });

  it('are replied to at Slack, and nowhere else', async () => {
    const elsewhere = await startSlackRecorder(TOKEN);
    const { body, headers } = signed(clicked({ response_url: `${elsewhere.origin}/actions` }));
    const callback = read(body, headers);
    await (callback.kind === 'verified' && callback.answer?.tell('Approved by', true));
    expect(elsewhere.received).toEqual([]);
    const own = { ...config, endpoint: `${elsewhere.origin}/api` };
    const at = read(body, headers, new Date(), own);
    await (at.kind === 'verified' && at.answer?.tell('Approved by', true));
    expect(elsewhere.received.map(({ raw }) => JSON.parse(raw))).toEqual([
      { replace_original: true, text: 'Approved by <@U1234567>' },
    ]);
    await elsewhere.close();
  });
});
