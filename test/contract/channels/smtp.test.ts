import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SmtpAdapter } from '../../../src/channels/adapters/smtp.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { LOCALHOST } from '../../support/peers/certificate.js';
import { type SmtpPeer, type SmtpPeerOptions, type SmtpReaction, startSmtpPeer } from '../../support/peers/smtp.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';

const LOGIN = { user: 'waybill', pass: 'p4ssw0rd-of-the-relay' };
const QUOTE = `${LOGIN.pass} <ada@example.com> Ada Lovelace +1 555 123 4567`;
const content: Content = { subject: 'For Ada Lovelace', text: 'Dear Ada Lovelace' };

const REACTIONS: Readonly<Record<Behaviour, SmtpReaction>> = {
  accepts: undefined,
  unavailable: { code: 451, text: `4.3.0 try later ${QUOTE}` },
  unauthorized: { code: 530, text: `5.7.0 log in first ${QUOTE}` },
  limited: { code: 450, text: `4.7.1 slow down ${QUOTE}` },
  silent: 'silence',
  drops: 'drop',
};

conforms({
  name: 'smtp',
  create: (egress) => new SmtpAdapter(egress),
  async start() {
    const peer = await startSmtpPeer({ auth: LOGIN });
    let reaction: SmtpReaction;
    let seen = 0;
    peer.onRecipient = () => {
      seen += 1;
      return reaction === 'drop' ? undefined : reaction;
    };
    peer.onMessage = () => (reaction === 'drop' ? 'drop' : undefined);
    return {
      config: {
        service: 'smtp',
        host: peer.host,
        port: peer.port,
        auth: LOGIN,
        from: 'Reports <reports@sender.example>',
        recipients: ['ada@example.com'],
      },
      port: peer.port,
      answer: (next: SmtpReaction) => {
        reaction = next;
      },
      behave: (behaviour: Behaviour) => {
        reaction = REACTIONS[behaviour];
      },
      seen: () => seen,
      accepted: () => peer.received.length,
      close: peer.close,
    };
  },
  bad: [
    { change: { service: 'carrier pigeon' }, path: 'service' },
    { change: { host: '' }, path: 'host' },
    { change: { host: 'two words' }, path: 'host' },
    { change: { host: '10.0.0.1' }, path: 'host' },
    { change: { port: 70_000 }, path: 'port' },
    { change: { auth: { user: 'a' } }, path: 'auth.pass' },
    { change: { from: 'nobody' }, path: 'from' },
    { change: { from: 'a\r\nBcc: x <a@example.com>' }, path: 'from' },
    { change: { recipients: [] }, path: 'recipients' },
    { change: { recipients: ['a@example.com', 'a@b@example.com'] }, path: 'recipients.1' },
    { change: { recipients: [`${'a'.repeat(65)}@example.com`] }, path: 'recipients.0' },
    { change: { recipients: Array.from({ length: 101 }, (_, i) => `r${i}@example.com`) }, path: 'recipients' },
    { change: { subject: '{{ date' }, path: 'subject' },
    { change: { bodyTemplate: '{% if %}' }, path: 'bodyTemplate' },
    { change: { apiKey: 'SG.x' }, path: 'apiKey' },
  ],
  refusals: [
    {
      when: 'an unknown mailbox',
      behave: (peer) => peer.answer({ code: 550, text: `5.1.1 ${QUOTE}` }),
      category: 'PERMANENT',
      code: 'SMTP_550',
    },
    {
      when: 'a message too big',
      behave: (peer) => peer.answer({ code: 552, text: `5.3.4 ${QUOTE}` }),
      category: 'VALIDATION',
      code: 'SMTP_552',
    },
    { when: 'a wrong password', change: { auth: { ...LOGIN, pass: 'wrong' } }, category: 'AUTHENTICATION' },
  ],
  redirect: (port) => ({ port }),
  proxied: { requireTls: false },
  addresses: { good: 'grace.hopper+waybill@example.com', bad: 'grace@' },
  content,
  confidential: [LOGIN.pass, 'ada@example.com', 'Ada Lovelace', '555 123 4567'],
  limitedCategory: 'TEMPORARY', // SMTP has no word for it, and cannot say how long
});

describe('smtp', () => {
  let peer: SmtpPeer;
  let egress: Egress;
  let adapter: SmtpAdapter;

  const start = async (peerOptions: SmtpPeerOptions = {}) => {
    peer = await startSmtpPeer(peerOptions);
  };
  beforeEach(() => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new SmtpAdapter(egress);
  });
  afterEach(async () => {
    adapter.close();
    await peer.close();
    await egress.close();
  });
  const configOf = (change: JsonObject = {}) => ({
    service: 'smtp',
    host: peer.host,
    port: peer.port,
    from: 'Reports <reports@sender.example>',
    recipients: ['ada@example.com', 'grace@example.com'],
    ...change,
  });
  const send = (change: JsonObject = {}, message: Content = content, more = {}) =>
    adapter.send(messageOf(configOf(change), message, more), options());

  it('sends what the destination says, with the variables of the request', async () => {
    await start();
    const outcome = await send(
      { subject: 'Report of {{date}} for {{name}}', bodyTemplate: 'Total: {{totalEvents}}\n{{deliveryId}}' },
      { subject: 'not this', text: 'nor this', data: { totalEvents: 42, name: 'nobody' } },
      { personalization: { name: 'Ada' } },
    );
    expect(outcome).toMatchObject({ kind: 'accepted', providerMessageId: 'attempt-0001@sender.example' });
    const [received] = peer.received;
    expect(received?.to).toEqual(['ada@example.com', 'grace@example.com']);
    expect(received?.mail.subject).toBe('Report of 2026-03-04 for Ada');
    expect(received?.mail.text?.trim()).toBe('Total: 42\ndelivery-1');
    expect(received?.mail.from?.value).toEqual([{ name: 'Reports', address: 'reports@sender.example' }]);
    expect(received?.mail.messageId).toBe('<attempt-0001@sender.example>');
  });

  it('sends text, html and attachments of the request', async () => {
    await start();
    const attachment = { filename: 'zahlen für 2026.csv', contentType: 'text/csv', base64: 'YTtiCjE7Mgo=' };
    await send({}, { text: 'Grüße', html: '<p>Grüße</p>', attachments: [attachment] });
    const mail = peer.received[0]?.mail;
    expect(mail).toMatchObject({ subject: 'Notification', html: '<p>Grüße</p>' });
    expect(mail?.text?.trim()).toBe('Grüße');
    expect(mail?.attachments[0]).toMatchObject({ filename: 'zahlen für 2026.csv', contentType: 'text/csv' });
    expect(mail?.attachments[0]?.content.toString()).toBe('a;b\n1;2\n');
  });

  it('writes data that comes alone as JSON', async () => {
    await start();
    await send({}, { data: { events: [1, 2] } });
    expect(JSON.parse(peer.received[0]?.mail.text ?? '')).toEqual({ events: [1, 2] });
  });

  it('lets nobody add a header', async () => {
    await start();
    await send({ subject: '{{title}}' }, { data: { title: 'Hi\r\nBcc: eve@example.com\r\n\r\nbody' }, text: 'x' });
    await send({}, { subject: 'Hi\nBcc: eve@example.com', text: 'x' });
    for (const { mail, to } of peer.received) {
      expect(mail.headers.has('bcc')).toBe(false);
      expect(to).not.toContain('eve@example.com');
    }
    expect(peer.received).toHaveLength(2);
  });

  it('does not send a letter whose template lacks a variable', async () => {
    await start();
    const outcome = await send({ bodyTemplate: 'Dear {{name}}' });
    expect(outcome).toMatchObject({ category: 'VALIDATION', code: 'TEMPLATE_ERROR' });
    expect(outcome).toMatchObject({ detail: expect.stringContaining('name') });
    expect(peer.received).toHaveLength(0);
  });

  it('warns when some recipients are refused, without naming them', async () => {
    await start();
    peer.onRecipient = (address) => (address.startsWith('grace') ? { code: 550, text: '5.1.1 unknown' } : undefined);
    const outcome = await send();
    expect(outcome).toMatchObject({ kind: 'accepted', warning: '1 of 2 recipients refused (SMTP 550)' });
    expect(peer.received[0]?.to).toEqual(['ada@example.com']);
  });

  it.each([
    [[550, 550], 'PERMANENT', 'SMTP_550'],
    [[550, 452], 'TEMPORARY', 'SMTP_452'],
  ])('when all recipients are refused with %j, it is %s', async (codes, category, code) => {
    await start();
    const replies = [...codes];
    peer.onRecipient = () => ({ code: replies.shift() ?? 0, text: 'no' });
    expect(await send()).toMatchObject({ kind: 'rejected', category, code });
  });

  it.each([
    [421, '4.3.2 closing', 'TEMPORARY'],
    [452, '4.2.2 full for now', 'TEMPORARY'],
    [550, '5.7.1 spam', 'PERMANENT'],
    [552, '5.3.4 too big', 'VALIDATION'],
    [552, '5.2.2 mailbox full', 'PERMANENT'],
    [554, '5.0.0 no', 'PERMANENT'],
  ])('takes %i %s for %s', async (code, text, category) => {
    await start();
    peer.onMessage = () => ({ code, text });
    expect(await send()).toMatchObject({ kind: 'rejected', category, code: `SMTP_${code}` });
  });

  it('does not send a message larger than the server announces', async () => {
    await start({ size: 2_000 });
    expect(await send({}, { text: 'x'.repeat(5_000) })).toMatchObject({ category: 'VALIDATION', code: 'SMTP_552' });
  });

  it('tells a wrong password apart', async () => {
    await start({ auth: LOGIN });
    const outcome = await send({ auth: { ...LOGIN, pass: 'wrong' } });
    expect(outcome).toMatchObject({ category: 'AUTHENTICATION', code: 'SMTP_535' });
    const test = await adapter.test(configOf({ auth: { ...LOGIN, pass: 'wrong' } }), options());
    expect(test).toMatchObject({ ok: false, problems: [{ path: 'auth' }] });
  });

  it('is in doubt when the connection breaks after the message, not before', async () => {
    await start();
    peer.onMessage = () => 'drop';
    expect(await send()).toMatchObject({ category: 'NETWORK', code: 'CONNECTION_CLOSED', inDoubt: true });
    peer.onMessage = () => undefined;
    peer.onRecipient = () => 'drop';
    const before = await send();
    expect(before).toMatchObject({ category: 'NETWORK', code: 'CONNECTION_CLOSED' });
    expect(before).not.toHaveProperty('inDoubt');
  });

  it('uses a connection again, and another one as soon as the configuration changes', async () => {
    await start({ auth: LOGIN });
    for (let sent = 0; sent < 3; sent += 1) await send({ auth: LOGIN });
    expect(peer.connections().opened).toBe(1);
    expect(await send({ auth: { ...LOGIN, pass: 'old' } })).toMatchObject({ category: 'AUTHENTICATION' });
    expect(peer.connections().opened).toBe(2);
  });

  it('replaces a connection that the server closed while it was idle', async () => {
    await start();
    await send();
    peer.dropConnections();
    await expect.poll(() => peer.connections().open).toBe(0);
    expect(await send()).toMatchObject({ kind: 'accepted' });
    expect(peer.received).toHaveLength(2);
  });

  it('sends over another connection when a kept one turns out to be dead before the message has left', async () => {
    await start();
    await send();
    const reactions: SmtpReaction[] = ['drop'];
    peer.onRecipient = () => reactions.shift();
    expect(await send()).toMatchObject({ kind: 'accepted' });
    expect(peer.received).toHaveLength(2);
    expect(peer.connections().opened).toBe(2);
  });

  it('opens no more connections than its share, and sends everything', async () => {
    await start();
    const outcomes = await Promise.all(Array.from({ length: 40 }, () => send()));
    expect(outcomes.every(({ kind }) => kind === 'accepted')).toBe(true);
    expect(peer.received).toHaveLength(40);
    expect(peer.connections().opened).toBeLessThanOrEqual(4);
  });

  it('keeps connections to at most 64 servers', async () => {
    await start();
    const resolver = ((_: string, __: object, done: (error: null, found: object[]) => void) =>
      done(null, [{ address: '127.0.0.1', family: 4 }])) as never;
    const everywhere = new Egress({ allowedNetworks: LOOPBACK, resolver });
    const busy = new SmtpAdapter(everywhere);
    const hosts = Array.from({ length: 70 }, (_, number) => `mail${number}.test`);
    const outcomes = await Promise.all(
      hosts.map((host) => busy.send(messageOf(configOf({ host }), content), options())),
    );
    expect(outcomes.every(({ kind }) => kind === 'accepted')).toBe(true);
    await expect.poll(() => peer.connections()).toEqual({ opened: 70, open: 64 });
    busy.close();
    await expect.poll(() => peer.connections().open).toBe(0);
    await everywhere.close();
  });

  it('leaves no connection behind when it is stopped or closed', async () => {
    await start();
    await send();
    const reached = vi.fn(() => 'silence' as const);
    peer.onMessage = reached;
    const controller = new AbortController();
    const stopped = adapter.send(messageOf(configOf(), content), options(controller.signal));
    await expect.poll(() => reached).toHaveBeenCalled();
    controller.abort();
    await stopped;
    await expect.poll(() => peer.connections().open).toBe(0);
    peer.onMessage = () => undefined;
    await send();
    adapter.close();
    await expect.poll(() => peer.connections().open).toBe(0);
  });

  describe('with TLS', () => {
    it.each(['starttls', 'implicit'] as const)('verifies the certificate (%s)', async (tls) => {
      await start({ tls });
      const outcome = await send({ secure: tls === 'implicit' });
      expect(outcome).toMatchObject({ category: 'NETWORK', code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
      expect(peer.received).toHaveLength(0);
    });

    it.each(['starttls', 'implicit'] as const)('sends over TLS under the name of the host (%s)', async (tls) => {
      await start({ tls, auth: LOGIN });
      const resolver = ((_: string, __: object, done: (e: null, a: object[]) => void) =>
        done(null, [{ address: '127.0.0.1', family: 4 }])) as never;
      const trusting = new Egress({
        allowedNetworks: LOOPBACK,
        trustedCertificates: [LOCALHOST.cert],
        resolver,
      });
      const secured = new SmtpAdapter(trusting);
      const change = { secure: tls === 'implicit', requireTls: true, auth: LOGIN };
      const good = configOf({ ...change, host: 'mail.test' });
      const impostor = configOf({ ...change, host: 'other.test' });
      expect(await secured.send(messageOf(good, content), options())).toMatchObject({ kind: 'accepted' });
      expect(peer.received[0]).toMatchObject({ secure: true, user: LOGIN.user });
      expect(await secured.send(messageOf(impostor, content), options())).toMatchObject({
        category: 'NETWORK',
        code: 'ERR_TLS_CERT_ALTNAME_INVALID',
      });
      secured.close();
      await trusting.close();
    });

    it('gives a login to nobody outside the allowed networks without TLS, unless told to', async () => {
      await start({ auth: LOGIN });
      egress.isInternal = () => false; // as if the server stood on the internet
      expect(await send({ auth: LOGIN })).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'ETLS' });
      expect(await send({ auth: LOGIN, requireTls: false })).toMatchObject({ kind: 'accepted' });
      expect(await send({ auth: LOGIN, requireTls: false })).toMatchObject({ kind: 'accepted' });
    });

    it('goes no further without TLS where it is required', async () => {
      await start({ auth: LOGIN });
      const outcome = await send({ requireTls: true, auth: LOGIN });
      expect(outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'ETLS' });
      expect(peer.received).toHaveLength(0);
    });
  });
});
