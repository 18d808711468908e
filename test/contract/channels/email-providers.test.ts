import type { Server } from 'node:http';
import { createRequire } from 'node:module';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MailgunAdapter } from '../../../src/channels/adapters/mailgun.js';
import { MailpaceAdapter } from '../../../src/channels/adapters/mailpace.js';
import { ResendAdapter } from '../../../src/channels/adapters/resend.js';
import { SesAdapter } from '../../../src/channels/adapters/ses.js';
import type { ChannelAdapter } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { awsJsonError, startAwsRecorder } from '../../support/peers/aws-recorder.js';
import { type Answer, unusedPort } from '../../support/peers/http-peer.js';
import { mailgunError, startMailgunRecorder } from '../../support/peers/mailgun-recorder.js';
import { startMailpaceRecorder } from '../../support/peers/mailpace-recorder.js';
import type { Recorder } from '../../support/peers/recorder.js';
import { resendError, startResendRecorder } from '../../support/peers/resend-recorder.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { recording, refusing } from './peers.js';

/** Its types and its module format do not agree on what its default export is. */
const { default: startSes } = createRequire(import.meta.url)('aws-ses-v2-local') as {
  default(options: { host: string; port: number }): Promise<Server>;
};

const KEY = 'k3y-of-the-account';
const AWS = { region: 'eu-central-1', accessKeyId: 'AKIAEXAMPLE0000000', secretAccessKey: 'aws-s3cret-of-the-account' };
const FROM = { from: 'Reports <reports@sender.example>', recipients: ['ada@example.com'] };
const content: Content = { subject: 'For Ada Lovelace', text: 'Dear Ada Lovelace' };

interface Provider {
  readonly name: string;
  readonly create: (egress: Egress) => ChannelAdapter;
  readonly start: () => Promise<Recorder<unknown>>;
  readonly credentials: JsonObject;
  readonly refuse: (status: number, words: string) => Answer;
  readonly bad: readonly { readonly change: JsonObject; readonly path: string }[];
}

const providers: readonly Provider[] = [
  {
    name: 'mailgun',
    create: (egress) => new MailgunAdapter(egress, 'Waybill/test'),
    start: () => startMailgunRecorder(KEY, 'mg.sender.example'),
    credentials: { apiKey: KEY, domain: 'mg.sender.example' },
    refuse: mailgunError,
    bad: [
      { change: { domain: 'a/b' }, path: 'domain' },
      { change: { apiKey: 'with space' }, path: 'apiKey' },
    ],
  },
  {
    name: 'resend',
    create: (egress) => new ResendAdapter(egress, 'Waybill/test'),
    start: () => startResendRecorder(KEY),
    credentials: { apiKey: KEY },
    refuse: (status, words) => resendError(status, status === 429 ? 'rate_limit_exceeded' : 'application_error', words),
    bad: [{ change: { apiKey: '' }, path: 'apiKey' }],
  },
  {
    name: 'mailpace',
    create: (egress) => new MailpaceAdapter(egress, 'Waybill/test'),
    start: () => startMailpaceRecorder(KEY),
    credentials: { apiKey: KEY },
    refuse: (status, error) => ({ status, body: { error } }),
    bad: [{ change: { headers: { 'X-A': 'b' } }, path: 'headers' }],
  },
  {
    name: 'ses',
    create: (egress) => new SesAdapter(egress),
    start: () => startAwsRecorder(AWS.accessKeyId, AWS.region),
    credentials: AWS,
    refuse: (status, words) => awsJsonError(status, status === 429 ? 'TooManyRequestsException' : 'Unnamed', words),
    bad: [
      { change: { region: 'Frankfurt' }, path: 'region' },
      { change: { accessKeyId: 'short' }, path: 'accessKeyId' },
      { change: { secretAccessKey: 'a b' }, path: 'secretAccessKey' },
      { change: { configurationSet: 'a b' }, path: 'configurationSet' },
    ],
  },
];

const configOf = ({ name, credentials }: Provider, endpoint: string, change: JsonObject = {}): JsonObject => ({
  service: name,
  ...credentials,
  endpoint,
  ...FROM,
  ...change,
});

for (const provider of providers) {
  const secret = String(provider.credentials.secretAccessKey ?? provider.credentials.apiKey);
  const confidential = [secret, 'ada@example.com', 'Ada Lovelace'];
  const quote = confidential.join(' ');
  conforms({
    name: provider.name,
    create: provider.create,
    async start() {
      const recorder = await provider.start();
      const reactions = refusing((status) => provider.refuse(status, quote), 7);
      return recording(recorder, configOf(provider, recorder.url), reactions);
    },
    bad: [
      { change: { endpoint: 'http://192.168.0.1' }, path: 'endpoint' },
      { change: { from: 'Reports' }, path: 'from' },
      { change: { recipients: ['ada'] }, path: 'recipients.0' },
      ...provider.bad,
    ],
    refusals: [],
    redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
    addresses: { good: 'grace@example.com', bad: 'grace example.com' },
    content,
    confidential,
    retryAfterMs: 7_000,
  });
}

const whole: Content = {
  subject: 'Figures',
  text: 'plain',
  html: '<img src="cid:logo">',
  attachments: [
    { filename: 'a.csv', contentType: 'text/csv', base64: Buffer.from('a;b').toString('base64') },
    {
      filename: 'logo.png',
      contentType: 'image/png',
      base64: Buffer.from('png').toString('base64'),
      contentId: 'logo',
    },
  ],
};
const wholeConfig = {
  cc: ['cc@example.com'],
  bcc: ['bcc@example.com'],
  replyTo: 'desk@sender.example',
  unsubscribe: { url: 'https://example.com/u' },
};

describe('what each provider is given', () => {
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
    const provider = providers.find((each) => each.name === name) as Provider;
    recorder = await provider.start();
    const adapter = provider.create(egress);
    const send = (change: JsonObject = {}, message: Content = content, key = 'attempt-0001') =>
      adapter.send(messageOf(configOf(provider, recorder.url, change), message, { tags: ['q 1'] }), {
        ...options(),
        attemptKey: key,
      });
    const test = (change: JsonObject) => adapter.test(configOf(provider, recorder.url, change), options());
    return { send, test };
  };

  it('mailgun: a form', async () => {
    const { send } = await start('mailgun');
    expect(await send(wholeConfig, whole)).toMatchObject({
      kind: 'accepted',
      providerMessageId: expect.stringMatching(/^\d+\.1@/),
    });
    expect(recorder.received[0]).toEqual({
      from: ['"Reports" <reports@sender.example>'],
      to: ['ada@example.com'],
      cc: ['cc@example.com'],
      bcc: ['bcc@example.com'],
      subject: ['Figures'],
      text: ['plain'],
      html: ['<img src="cid:logo">'],
      'h:Reply-To': ['desk@sender.example'],
      'h:Message-Id': ['<attempt-0001@sender.example>'],
      'h:List-Unsubscribe': ['<https://example.com/u>'],
      'h:List-Unsubscribe-Post': ['List-Unsubscribe=One-Click'],
      'o:tag': ['q 1'],
      'v:deliveryId': ['delivery-1'],
      'v:attemptKey': ['attempt-0001'],
      attachment: ['a.csv text/csv a;b'],
      inline: ['logo image/png png'],
    });
  });

  it('resend: JSON, with the key that keeps a repetition from being a second message', async () => {
    const { send } = await start('resend');
    const first = await send(wholeConfig, whole);
    expect(await send(wholeConfig, whole)).toEqual(first);
    expect(recorder.received).toHaveLength(1);
    expect(recorder.received[0]).toMatchObject({
      to: ['ada@example.com'],
      reply_to: 'desk@sender.example',
      headers: { 'List-Unsubscribe-Post': 'List-Unsubscribe=One-Click' },
      attachments: [{ filename: 'a.csv' }, { filename: 'logo.png', content_id: 'logo' }],
      tags: [
        { name: 'delivery_id', value: 'delivery-1' },
        { name: 'attempt_key', value: 'attempt-0001' },
        { name: 'tag_1', value: 'q_1' },
      ],
    });
    expect(await send(wholeConfig, content)).toMatchObject({
      category: 'VALIDATION',
      code: 'RESEND_INVALID_IDEMPOTENT_REQUEST',
    });
    expect(await send(wholeConfig, content, 'attempt-0002')).toMatchObject({ kind: 'accepted' });
  });

  it('mailpace: JSON of its own kind, and nothing it has no place for', async () => {
    const { send } = await start('mailpace');
    expect(await send(wholeConfig, whole)).toMatchObject({ kind: 'accepted', providerMessageId: '4711' });
    expect(recorder.received[0]).toMatchObject({
      to: 'ada@example.com',
      cc: 'cc@example.com',
      replyto: 'desk@sender.example',
      htmlbody: '<img src="cid:logo">',
      list_unsubscribe: '<https://example.com/u>',
      attachments: [{ name: 'a.csv' }, { name: 'logo.png', cid: 'cid:logo' }],
      tags: ['q 1'],
    });
    const outcome = await send({}, { ...content, email: { headers: { 'X-A': 'b' } } });
    expect(outcome).toMatchObject({ category: 'VALIDATION', code: 'UNSUPPORTED' });
  });

  it.each<[string, Answer, string]>([
    ['mailgun', mailgunError(400, "'to' parameter is not a valid address"), 'VALIDATION'],
    ['mailgun', { status: 401, body: 'Forbidden' }, 'AUTHENTICATION'],
    ['mailgun', mailgunError(404, 'Domain not found'), 'CONFIGURATION'],
    ['resend', resendError(403, 'invalid_api_key', 'API key is invalid'), 'AUTHENTICATION'],
    ['resend', resendError(409, 'concurrent_idempotent_requests', 'in progress'), 'TEMPORARY'],
    ['resend', resendError(422, 'missing_required_field', 'Missing `to`'), 'VALIDATION'],
    ['resend', resendError(429, 'daily_quota_exceeded', 'quota'), 'RATE_LIMIT'],
    ['mailpace', { status: 400, body: { error: 'Invalid API Token' } }, 'AUTHENTICATION'],
    ['mailpace', { status: 400, body: { errors: { to: ['contains a blocked address'] } } }, 'PERMANENT'],
    ['mailpace', { status: 400, body: { errors: { to: ['is invalid'] } } }, 'VALIDATION'],
    ['mailpace', { status: 403, body: { error: 'Domain DKIM DNS not verified' } }, 'CONFIGURATION'],
    ['ses', awsJsonError(400, 'MessageRejected', 'Email address is not verified.'), 'PERMANENT'],
    ['ses', awsJsonError(400, 'BadRequestException', 'Illegal address'), 'VALIDATION'],
    ['ses', awsJsonError(400, 'AccountSuspendedException', 'suspended'), 'CONFIGURATION'],
    ['ses', awsJsonError(403, 'SignatureDoesNotMatch', 'no'), 'AUTHENTICATION'],
    ['ses', awsJsonError(404, 'NotFoundException', 'no configuration set'), 'CONFIGURATION'],
    ['ses', awsJsonError(400, 'ThrottlingException', 'Rate exceeded'), 'RATE_LIMIT'],
  ])('%s: %j is %s', async (name, answer, category) => {
    const { send } = await start(name);
    recorder.respond = () => answer;
    expect(await send()).toMatchObject({ kind: 'rejected', category });
  });

  it.each([
    ['mailgun', { apiKey: 'wrong' }, 'apiKey'],
    ['resend', { apiKey: 'wrong' }, 'apiKey'],
    ['mailpace', { apiKey: 'wrong' }, 'apiKey'],
    ['ses', { accessKeyId: 'AKIAWRONG000000000' }, 'accessKeyId'],
  ])('%s: wrong credentials are found without sending', async (name, change, path) => {
    const { test } = await start(name);
    expect(await test(change)).toMatchObject({ ok: false, problems: [{ path }] });
    expect(recorder.received).toHaveLength(0);
  });
});

it('ses: the emulator reads the message that the SDK has signed and written', async () => {
  const port = await unusedPort();
  const server = await startSes({ host: '127.0.0.1', port });
  const egress = new Egress({ allowedNetworks: LOOPBACK });
  const endpoint = `http://127.0.0.1:${port}`;
  const config = { service: 'ses', ...AWS, endpoint, ...FROM, ...wholeConfig };
  const outcome = await new SesAdapter(egress).send(messageOf(config, whole, { tags: ['q 1'] }), options());
  expect(outcome).toMatchObject({ kind: 'accepted', providerMessageId: expect.stringMatching(/./) });
  const store = (await (await fetch(`${endpoint}/store`)).json()) as { emails: Record<string, unknown>[] };
  expect(store.emails[0]).toMatchObject({
    subject: 'Figures',
    destination: { to: ['ada@example.com'], cc: ['cc@example.com'], bcc: ['bcc@example.com'] },
    replyTo: ['desk@sender.example'],
    body: { text: expect.stringContaining('plain') },
  });
  await egress.destroy();
  await new Promise((resolve) => server.close(resolve));
});
