import { execFileSync } from 'node:child_process';
import { createHash, createHmac, createSign, generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { Webhook } from 'standardwebhooks';
import twilio from 'twilio';
import { afterAll, describe, expect, it } from 'vitest';
import { nameOf } from '../../../scripts/channel-docs.js';
import { SnsMessages } from '../../../src/channels/callbacks/sns-message.js';
import type { Callback, CallbackRequest } from '../../../src/channels/channel.js';
import { createChannels } from '../../../src/channels/registry.js';
import type { JsonObject } from '../../../src/domain/vocabulary.js';

/** Each provider's signature, made here by its own library or as its documentation says, and every way to get it wrong. */
const channels = createChannels({ allowedNetworks: [] });
afterAll(() => channels.close());

const now = new Date('2026-11-21T10:00:00Z');
const seconds = String(now.getTime() / 1_000);
const stale = String(now.getTime() / 1_000 - 3_600);
const DELIVERY = 'd0000000-0000-4000-8000-000000000001';
const KEY = `${DELIVERY}_1`;
const URL_ = 'https://waybill.example.com/callbacks/x/y';

const request = (body: string, headers: CallbackRequest['headers'] = {}, url = URL_): CallbackRequest => ({
  method: 'POST',
  url,
  headers,
  body: Buffer.from(body),
  now,
});
const read = async (provider: string, made: CallbackRequest, config: JsonObject): Promise<Callback> => {
  const { adapters } = channels.registry;
  const adapter = adapters.find((each) => nameOf(each, adapters) === provider);
  if (!adapter?.parseCallback) throw new Error(`${provider} reads no callbacks`);
  return await adapter.parseCallback(made, config);
};

/** The same request with one byte of the body changed, and with one that nobody has signed. */
async function refusesOthers(provider: string, made: CallbackRequest, config: JsonObject, without: JsonObject = {}) {
  const forged = { ...made, body: Buffer.from(made.body.toString().replace('ada', 'eve')) };
  expect(forged.body.equals(made.body)).toBe(false);
  expect(await read(provider, forged, config)).toMatchObject({ kind: 'refused' });
  expect(await read(provider, { ...made, headers: {} }, config)).toMatchObject({ kind: 'refused' });
  expect(await read(provider, made, without)).toMatchObject({ kind: 'refused' });
  expect(await read(provider, { ...made, body: Buffer.from('nonsense') }, config)).toMatchObject({ kind: 'refused' });
}

describe('sendgrid', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const config = { webhookPublicKey: publicKey.export({ format: 'der', type: 'spki' }).toString('base64') };
  const signed = (events: object[], timestamp = seconds) => {
    const body = JSON.stringify(events);
    const signature = createSign('sha256')
      .update(timestamp + body)
      .sign(privateKey, 'base64');
    return request(body, {
      'x-twilio-email-event-webhook-timestamp': timestamp,
      'x-twilio-email-event-webhook-signature': signature,
    });
  };
  const event = (more: object) => ({
    email: 'ada@example.com',
    timestamp: 1_763_720_000,
    sg_event_id: 'e1',
    sg_message_id: 'm1.filter-1',
    deliveryId: DELIVERY,
    attemptKey: KEY,
    ...more,
  });

  it('tells what became of a message', async () => {
    const made = signed([
      event({ event: 'processed' }),
      event({ event: 'delivered', sg_event_id: 'e2' }),
      event({ event: 'bounce', type: 'bounce', sg_event_id: 'e3', reason: '550 ada@example.com is unknown' }),
      event({ event: 'bounce', type: 'blocked', sg_event_id: 'e4' }),
      event({ event: 'spamreport', sg_event_id: 'e5' }),
    ]);
    expect(await read('sendgrid', made, config)).toEqual({
      kind: 'verified',
      reports: [
        expect.objectContaining({ id: 'e2', kind: 'Delivered', attemptKey: KEY, providerMessageId: 'm1' }),
        expect.objectContaining({
          kind: 'Bounced',
          code: 'SENDGRID_BOUNCE',
          detail: '550 [address] is unknown',
          suppress: true,
        }),
        expect.not.objectContaining({ suppress: true }),
        expect.objectContaining({ kind: 'Complained', suppress: true, at: new Date(1_763_720_000_000) }),
      ],
    });
  });

  it('is not believed otherwise', async () => {
    await refusesOthers('sendgrid', signed([event({ event: 'delivered' })]), config);
    expect(await read('sendgrid', signed([event({ event: 'delivered' })], stale), config)).toEqual({
      kind: 'refused',
      reason: 'timestamp',
    });
  });
});

describe('mailgun', () => {
  const config = { webhookSigningKey: 'key-of-the-account' };
  const signed = (data: object, timestamp = seconds) => {
    const token = 'a'.repeat(50);
    const signature = createHmac('sha256', config.webhookSigningKey)
      .update(timestamp + token)
      .digest('hex');
    return request(JSON.stringify({ signature: { timestamp, token, signature }, 'event-data': data }));
  };
  const failed = {
    id: 'e1',
    event: 'failed',
    severity: 'permanent',
    reason: 'bounce',
    timestamp: 1_763_720_000.5,
    recipient: 'ada@example.com',
    'delivery-status': { code: 550, message: 'no such mailbox' },
    'user-variables': { deliveryId: DELIVERY, attemptKey: KEY },
    message: { headers: { 'message-id': 'm1@sender.example' } },
  };

  it('tells what became of a message', async () => {
    expect(await read('mailgun', signed(failed), config)).toMatchObject({
      reports: [{ kind: 'Bounced', code: 'MAILGUN_550', detail: 'no such mailbox', suppress: true, attemptKey: KEY }],
    });
    expect(await read('mailgun', signed({ ...failed, severity: 'temporary' }), config)).toEqual({
      kind: 'verified',
      reports: [],
    });
  });

  it('is not believed otherwise', async () => {
    const made = signed(failed);
    const forged = { ...made, body: Buffer.from(made.body.toString().replace('aaaa', 'aaab')) };
    expect(await read('mailgun', forged, config)).toMatchObject({ kind: 'refused', reason: 'signature' });
    expect(await read('mailgun', signed(failed, stale), config)).toMatchObject({ kind: 'refused' });
    expect(await read('mailgun', made, {})).toMatchObject({ kind: 'refused' });
    expect(await read('mailgun', request('[]'), config)).toMatchObject({ kind: 'refused' });
  });
});

describe('resend', () => {
  const secret = `whsec_${Buffer.alloc(32, 'k').toString('base64')}`;
  const config = { webhookSecret: secret };
  const signed = (body: string, at = now) => {
    const signature = new Webhook(secret).sign('msg_1', at, body);
    const timestamp = String(Math.floor(at.getTime() / 1_000));
    return request(body, { 'svix-id': 'msg_1', 'svix-timestamp': timestamp, 'svix-signature': signature });
  };
  const body = JSON.stringify({
    type: 'email.bounced',
    created_at: '2026-11-21T09:59:00Z',
    data: {
      email_id: 'm1',
      to: ['ada@example.com'],
      tags: { delivery_id: DELIVERY, attempt_key: KEY },
      bounce: { type: 'Permanent', message: 'no such mailbox' },
    },
  });

  it('tells what became of a message', async () => {
    expect(await read('resend', signed(body), config)).toMatchObject({
      reports: [
        {
          id: 'msg_1/ada@example.com',
          kind: 'Bounced',
          address: 'ada@example.com',
          attemptKey: KEY,
          code: 'RESEND_PERMANENT',
          suppress: true,
          at: new Date('2026-11-21T09:59:00Z'),
        },
      ],
    });
  });

  it('is not believed otherwise', async () => {
    await refusesOthers('resend', signed(body), config);
    expect(await read('resend', signed(body, new Date(now.getTime() - 3_600_000)), config)).toMatchObject({
      kind: 'refused',
      reason: 'timestamp',
    });
  });
});

describe('mailpace', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const config = {
    webhookPublicKey: publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64'),
  };
  const signed = (body: string) =>
    request(body, { 'x-mailpace-signature': sign(null, Buffer.from(body), privateKey).toString('base64') });
  const body = JSON.stringify({
    event: 'email.delivered',
    payload: { id: 4711, status: 'delivered', to: 'Ada <ada@example.com>', updated_at: '2026-11-21T09:59:00Z' },
  });

  it('tells what became of a message', async () => {
    expect(await read('mailpace', signed(body), config)).toMatchObject({
      reports: [{ kind: 'Delivered', providerMessageId: '4711', address: 'ada@example.com' }],
    });
  });

  it('is not believed otherwise', () => refusesOthers('mailpace', signed(body), config));
});

describe('twilio voice', () => {
  const config = { authToken: 'f00dface', language: 'de-DE', voice: 'Polly.Vicki' };
  const confirming = { ...config, confirm: { prompt: '?', digit: '5', thanks: 'Danke & Tschüss' } };
  const signed = (fields: Record<string, string>, query = '') => {
    const url = `${URL_}?delivery=${DELIVERY}&attempt=${KEY}${query}`;
    const signature = twilio.getExpectedTwilioSignature(config.authToken, url, fields);
    return request(new URLSearchParams(fields).toString(), { 'x-twilio-signature': signature }, url);
  };
  const call = { CallSid: 'CA1', To: '+14155552671', CallerName: 'ada' };
  const base = { deliveryId: DELIVERY, attemptKey: KEY, providerMessageId: 'CA1', address: '+14155552671' };

  it.each([
    ['completed', [{ id: 'CA1/completed', kind: 'Delivered', ...base }]],
    ['busy', [{ id: 'CA1/busy', kind: 'Bounced', code: 'TWILIO_BUSY', ...base }]],
    ['no-answer', [{ id: 'CA1/no-answer', kind: 'Bounced', code: 'TWILIO_NO_ANSWER', ...base }]],
    ['failed', [{ id: 'CA1/failed', kind: 'Bounced', code: 'TWILIO_FAILED', ...base }]],
    ['canceled', [{ id: 'CA1/canceled', kind: 'Bounced', code: 'TWILIO_CANCELED', ...base }]],
    ['ringing', []],
    ['in-progress', []],
  ])('tells how a call has ended: %s', async (CallStatus, reports) => {
    const made = signed({ ...call, CallStatus });
    expect(await read('twilio-voice', made, config)).toMatchObject({ kind: 'verified', reports });
  });

  it('takes the right key for a confirmation, and says thanks', async () => {
    const made = signed({ ...call, CallStatus: 'in-progress', Digits: '5' }, '&asked=1');
    expect(await read('twilio-voice', made, confirming)).toMatchObject({
      kind: 'verified',
      reports: [{ id: 'CA1/confirmed', kind: 'Delivered', ...base }],
      reply: {
        contentType: 'text/xml',
        body: '<Response><Say language="de-DE" voice="Polly.Vicki">Danke &#38; Tschüss</Say></Response>',
      },
    });
  });

  it.each([{ Digits: '1' }, {}])('takes another key or none for none: %j', async (pressed) => {
    const made = signed({ ...call, CallStatus: 'in-progress', ...pressed }, '&asked=1');
    expect(await read('twilio-voice', made, confirming)).toMatchObject({
      reports: [{ id: 'CA1/unconfirmed', kind: 'Bounced', code: 'NOT_CONFIRMED', ...base }],
      reply: { body: '<Response/>' },
    });
  });

  it('does not take an end for a confirmation where a key was asked for', async () => {
    const made = signed({ ...call, CallStatus: 'completed' });
    expect(await read('twilio-voice', made, confirming)).toEqual({ kind: 'verified', reports: [] });
  });

  it('refuses what is not signed so', () =>
    refusesOthers('twilio-voice', signed({ ...call, CallStatus: 'completed' }), config, { authToken: 'another' }));
});

describe('twilio', () => {
  const config = { authToken: 'token-of-the-account' };
  const url = `${URL_}?delivery=${DELIVERY}&attempt=${KEY}`;
  const signed = (fields: Record<string, string>) => {
    const signature = twilio.getExpectedTwilioSignature(config.authToken, url, fields);
    return request(new URLSearchParams(fields).toString(), { 'x-twilio-signature': signature }, url);
  };
  const status = {
    MessageSid: 'SM1',
    MessageStatus: 'undelivered',
    ErrorCode: '30005',
    To: '+14155552671',
    Note: 'ada',
  };

  it('tells what became of a message', async () => {
    expect(await read('twilio', signed(status), config)).toMatchObject({
      reports: [
        {
          id: 'SM1/undelivered',
          kind: 'Bounced',
          deliveryId: DELIVERY,
          attemptKey: KEY,
          code: 'TWILIO_30005',
          suppress: true,
        },
      ],
    });
    const sent = await read('twilio', signed({ ...status, MessageStatus: 'sent' }), config);
    expect(sent).toEqual({ kind: 'verified', reports: [] });
  });

  it.each([
    ['STOP', 'OptedOut'],
    [' stop ', 'OptedOut'],
    ['Unsubscribe', 'OptedOut'],
    ['START', 'OptedIn'],
    ['HELP', undefined],
    ['stop sending it to grace', undefined],
  ])('takes an incoming %j for %s', async (Body, kind) => {
    const made = signed({ MessageSid: 'SM2', From: '+14155552671', Body });
    expect(await read('twilio', made, config)).toMatchObject({
      reports: kind === undefined ? [] : [{ kind, address: '+14155552671' }],
      reply: { contentType: 'text/xml', body: '<Response/>' },
    });
  });

  it('is not believed otherwise', async () => {
    await refusesOthers('twilio', signed(status), config, { authToken: 'another' });
    const elsewhere = { ...signed(status), url: url.replace(KEY, `${DELIVERY}_2`) };
    expect(await read('twilio', elsewhere, config)).toMatchObject({ kind: 'refused' });
  });
});

describe('bird', () => {
  const config = { signingKey: 'signing-key-of-the-account' };
  const url = `${URL_}?id=m1&reference=${KEY}&recipient=14155552671&status=delivery_failed&statusErrorCode=1&statusDatetime=2026-11-21T09%3A59%3A00Z`;
  const signed = async (claims: object = {}) => {
    const jwt = await new SignJWT({ url_hash: createHash('sha256').update(url).digest('hex'), ...claims })
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuer('MessageBird')
      .setNotBefore(now)
      .setExpirationTime(new Date(now.getTime() + 60_000))
      .sign(Buffer.from(config.signingKey));
    return { ...request('', { 'messagebird-signature-jwt': jwt }, url), method: 'GET' };
  };

  it('tells what became of a message', async () => {
    expect(await read('bird', await signed(), config)).toMatchObject({
      reports: [
        {
          kind: 'Bounced',
          providerMessageId: 'm1',
          deliveryId: DELIVERY,
          attemptKey: KEY,
          address: '+14155552671',
          code: 'BIRD_1',
          suppress: true,
        },
      ],
    });
  });

  it('is not believed otherwise', async () => {
    const made = await signed();
    const refusal = { kind: 'refused' };
    expect(await read('bird', { ...made, url: made.url.replace('failed', 'fail') }, config)).toMatchObject(refusal);
    expect(await read('bird', { ...made, headers: {} }, config)).toMatchObject(refusal);
    expect(await read('bird', made, { signingKey: 'another' })).toMatchObject(refusal);
    expect(await read('bird', made, {})).toMatchObject(refusal);
    const late = { ...made, now: new Date(now.getTime() + 3_600_000) };
    expect(await read('bird', late, config)).toMatchObject(refusal);
    expect(await read('bird', await signed({ iss: 'Somebody' }), config)).toMatchObject({ kind: 'verified' });
  });
});

describe('ses, through a topic of SNS', () => {
  const topic = 'arn:aws:sns:eu-central-1:123456789012:waybill';
  const config = { snsTopicArn: topic };
  const folder = mkdtempSync(join(tmpdir(), 'waybill-sns-'));
  const file = (name: string) => join(folder, name);
  const subject = ['-subj', '/CN=sns.amazonaws.com', '-days', '3650'];
  execFileSync(
    'openssl',
    ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', file('key'), '-out', file('crt'), ...subject],
    { stdio: 'ignore' },
  );
  const [key, certificate] = [readFileSync(file('key'), 'utf8'), readFileSync(file('crt'), 'utf8')];
  rmSync(folder, { recursive: true });
  /** The certificate is of today, so today is the time of these requests. */
  const today = new Date();
  const CERTIFICATE = 'https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123abc.pem';

  const fetched: string[] = [];
  const messages = new SnsMessages(channels.egress, async (url) => {
    fetched.push(url.href);
    return url.pathname.endsWith('.pem') ? certificate : '<ok/>';
  });
  const fields = (message: Record<string, string>) =>
    message.Type === 'Notification'
      ? ['Message', 'MessageId', 'Timestamp', 'TopicArn', 'Type']
      : ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'];
  const signed = (more: Record<string, string>) => {
    const message: Record<string, string> = {
      Type: 'Notification',
      MessageId: '1',
      TopicArn: topic,
      Timestamp: '2026-11-21T10:00:00Z',
      SignatureVersion: '2',
      SigningCertURL: CERTIFICATE,
      ...more,
    };
    const text = fields(message)
      .map((name) => `${name}\n${message[name]}\n`)
      .join('');
    message.Signature = createSign('sha256').update(text).sign(key, 'base64');
    return { ...request(JSON.stringify(message)), now: today };
  };
  const bounce = JSON.stringify({
    eventType: 'Bounce',
    mail: { messageId: 'm1', tags: { deliveryId: [DELIVERY], attemptKey: [KEY] } },
    bounce: {
      bounceType: 'Permanent',
      bounceSubType: 'General',
      feedbackId: 'f1',
      timestamp: '2026-11-21T09:59:00Z',
      bouncedRecipients: [{ emailAddress: 'ada@example.com', diagnosticCode: 'smtp; 550 ada@example.com unknown' }],
    },
  });

  it('tells what became of a message', async () => {
    expect(await messages.parse(signed({ Message: bounce }), config)).toMatchObject({
      reports: [
        {
          id: 'm1/Bounce/f1/ada@example.com',
          kind: 'Bounced',
          attemptKey: KEY,
          suppress: true,
          detail: 'smtp; 550 [address] unknown',
        },
      ],
    });
  });

  it('confirms a subscription to the topic that is configured', async () => {
    const subscribe = 'https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=t';
    const made = signed({ Type: 'SubscriptionConfirmation', Message: 'm', Token: 't', SubscribeURL: subscribe });
    expect(await messages.parse(made, config)).toEqual({ kind: 'verified', reports: [] });
    expect(fetched).toContain(subscribe);
    const elsewhere = signed({
      Type: 'SubscriptionConfirmation',
      Message: 'm',
      Token: 't',
      SubscribeURL: 'https://10.0.0.1/',
    });
    expect(await messages.parse(elsewhere, config)).toMatchObject({ kind: 'refused' });
    expect(fetched).not.toContain('https://10.0.0.1/');
  });

  it.each([
    'http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem',
    'https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem',
    'https://evil.example/SimpleNotificationService-1.pem',
    'https://sns.eu-central-1.amazonaws.com:8443/SimpleNotificationService-1.pem',
    'https://user@sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem',
    'https://s3.eu-central-1.amazonaws.com/bucket/SimpleNotificationService-1.pem',
    'https://sns.eu-central-1.amazonaws.com/other.pem',
    'https://169.254.169.254/latest/meta-data',
  ])('does not call %s', async (SigningCertURL) => {
    const before = fetched.length;
    const made = signed({ Message: bounce, SigningCertURL });
    expect(await messages.parse(made, config)).toEqual({ kind: 'refused', reason: 'certificate' });
    expect(fetched).toHaveLength(before);
  });

  it('is not believed otherwise', async () => {
    const made = signed({ Message: bounce });
    const forged = { ...made, body: Buffer.from(made.body.toString().replace('ada@', 'eve@')) };
    expect(await messages.parse(forged, config)).toMatchObject({ kind: 'refused', reason: 'signature' });
    const other = signed({ Message: bounce, TopicArn: `${topic}-of-somebody` });
    expect(await messages.parse(other, config)).toMatchObject({ kind: 'refused', reason: 'topic' });
    expect(await messages.parse(made, {})).toMatchObject({ kind: 'refused' });
    const expired = { ...made, now: new Date('2050-01-01') };
    expect(await messages.parse(expired, config)).toMatchObject({ kind: 'refused', reason: 'certificate' });
  });
});
