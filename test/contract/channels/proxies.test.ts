import { generateKeyPairSync } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ApnsAdapter } from '../../../src/channels/adapters/apns.js';
import { MailgunAdapter } from '../../../src/channels/adapters/mailgun.js';
import { SftpAdapter } from '../../../src/channels/adapters/sftp.js';
import { SmtpAdapter } from '../../../src/channels/adapters/smtp.js';
import type { ChannelAdapter } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { startApnsRecorder } from '../../support/peers/apns-recorder.js';
import { LOCALHOST } from '../../support/peers/certificate.js';
import { type HttpProxy, type HttpProxyOptions, startHttpProxy } from '../../support/peers/http-proxy.js';
import { startSftpServer } from '../../support/peers/sftp-server.js';
import { startSmtpPeer } from '../../support/peers/smtp.js';
import { LOOPBACK, messageOf, options } from './conformance.js';

/** Each kind of way out through a proxy: what the conformance suite does not ask of all of them. */
const content: Content = { subject: 'Ward 4', text: 'Dear Ada' };
const app = { teamId: 'TEAM012345', keyId: 'KEY0123456', topic: 'org.hospital.app' };
const keys = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const privateKey = keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
const login = { username: 'waybill', password: 'p4ssw0rd' };

const mail = (host: string, port: number): JsonObject => ({
  ...{ service: 'smtp', host, port, from: 'reports@sender.example', recipients: ['ada@example.com'] },
});
const upload = (host: string, port: number, hostKeyFingerprint: string): JsonObject => ({
  ...{ ...login, host, port, hostKeyFingerprint, path: '/in/' },
});
const push = (endpoint: string): JsonObject => ({
  ...{ service: 'apns', ...app, privateKey, to: 'a1b2c3d4'.repeat(8), endpoint },
});
const mailgun = (endpoint: string): JsonObject => ({
  ...{ service: 'mailgun', apiKey: 'key', domain: 'sender.example', endpoint },
  ...{ from: 'reports@sender.example', recipients: ['ada@example.com'] },
});

let egress: Egress;
let proxy: HttpProxy | undefined;
const closings: (() => unknown)[] = [];
beforeEach(() => {
  egress = new Egress({ allowedNetworks: LOOPBACK, trustedCertificates: [LOCALHOST.cert] });
});
afterEach(async () => {
  for (const close of closings.splice(0)) await close();
  await proxy?.close();
  await egress.destroy();
});
async function through(given: HttpProxyOptions = {}): Promise<JsonObject> {
  proxy = await startHttpProxy(given);
  return { proxy: { url: proxy.url } };
}
function send(adapter: ChannelAdapter & { close?(): unknown }, config: JsonObject) {
  closings.push(() => adapter.close?.());
  return adapter.send(messageOf(config, content), options());
}
async function smtpPeer(peerOptions: Parameters<typeof startSmtpPeer>[0] = {}) {
  const peer = await startSmtpPeer(peerOptions);
  closings.push(() => peer.close());
  return peer;
}

describe.each([{}, { isLate: true }, { tls: LOCALHOST }, { tls: LOCALHOST, isLate: true }])('through %o', (given) => {
  it('mail gets to a server that speaks first, with TLS inside the tunnel', async () => {
    const peer = await smtpPeer({ tls: 'starttls', auth: { user: 'a', pass: 'b' } });
    const config = { ...mail('localhost', peer.port), auth: { user: 'a', pass: 'b' }, ...(await through(given)) };
    expect(await send(new SmtpAdapter(egress), config)).toMatchObject({ kind: 'accepted' });
    expect(peer.received).toMatchObject([{ secure: true, user: 'a' }]);
    expect(proxy?.asked.map(({ authority }) => authority)).toEqual([`127.0.0.1:${peer.port}`]);
  });

  it('files get to an SFTP server whose key is known', async () => {
    const peer = await startSftpServer(login);
    closings.push(() => peer.close());
    const config = { ...upload(peer.host, peer.port, peer.fingerprint), ...(await through(given)) };
    expect(await send(new SftpAdapter(egress), config)).toMatchObject({ kind: 'accepted' });
    expect([...peer.files.keys()]).toEqual(['/in/delivery-1-content.txt']);
    expect(proxy?.asked.map(({ authority }) => authority)).toEqual([`127.0.0.1:${peer.port}`]);
    const other = upload(peer.host, peer.port, `SHA256:${'a'.repeat(43)}`);
    const outcome = await send(new SftpAdapter(egress), { ...config, ...other });
    expect(outcome).toMatchObject({ kind: 'rejected', code: 'HOST_KEY_MISMATCH' });
  });
});

describe.each([{}, { tls: LOCALHOST }])('through %o', (given) => {
  it('push messages go over HTTP/2, several of them by one tunnel', async () => {
    const recorder = await startApnsRecorder(keys.publicKey, app, LOCALHOST);
    closings.push(() => recorder.close());
    const config = { ...push(`https://localhost:${recorder.port}`), ...(await through(given)) };
    const adapter = new ApnsAdapter(egress);
    for (let sent = 0; sent < 3; sent++) expect(await send(adapter, config)).toMatchObject({ kind: 'accepted' });
    expect(recorder.received).toHaveLength(3);
    expect(proxy?.asked.map(({ authority }) => authority)).toEqual([`127.0.0.1:${recorder.port}`]);
    const { proxy: _, ...direct } = config;
    expect(await send(adapter, direct)).toMatchObject({ kind: 'accepted' });
    expect([recorder.connections(), proxy?.asked.length]).toEqual([2, 1]);
  });
});

describe('a proxy', () => {
  it('does not make a server one of the house: a login needs TLS all the same', async () => {
    const auth = { user: 'a', pass: 'b' };
    const peer = await smtpPeer({ auth });
    const config = { ...mail(peer.host, peer.port), auth };
    expect(await send(new SmtpAdapter(egress), config)).toMatchObject({ kind: 'accepted' });
    const outcome = await send(new SmtpAdapter(egress), { ...config, ...(await through()) });
    expect(outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'ETLS' });
    expect(peer.received).toHaveLength(1);
  });

  const resolver = ((_: string, __: object, done: (error: null, found: object[]) => void) =>
    done(null, [{ address: '10.0.0.1', family: 4 }])) as never;
  const adapters: [string, (egress: Egress) => ChannelAdapter, (host: string) => JsonObject][] = [
    ['smtp', (guard) => new SmtpAdapter(guard), (host) => mail(host, 25)],
    ['sftp', (guard) => new SftpAdapter(guard), (host) => upload(host, 22, `SHA256:${'a'.repeat(43)}`)],
    ['apns', (guard) => new ApnsAdapter(guard), (host) => push(`https://${host}`)],
    ['mailgun', (guard) => new MailgunAdapter(guard, 'Waybill/test'), (host) => mailgun(`https://${host}`)],
  ];
  it.each(adapters)('of %s does not lead to what is guarded, and is guarded itself', async (_, create, configOf) => {
    const strict = new Egress({ allowedNetworks: LOOPBACK, resolver });
    closings.push(() => strict.destroy());
    const by = await through();
    const adapter = create(strict);
    const blocked = { kind: 'rejected', category: 'CONFIGURATION', code: 'BLOCKED_ADDRESS' };
    expect(await send(adapter, { ...configOf('inside.test'), ...by })).toMatchObject(blocked);
    expect(await send(adapter, { ...configOf('10.0.0.9'), ...by })).toMatchObject(blocked);
    const rebound = { proxy: { url: 'http://proxy.test:1' } };
    expect(await send(adapter, { ...configOf('127.0.0.1'), ...rebound })).toMatchObject(blocked);
    expect(proxy?.asked).toEqual([]);
    for (const url of [
      'http://10.0.0.1:3128',
      'http://[::ffff:10.0.0.1]/',
      'socks5://127.0.0.1',
      'http://a:b@127.0.0.1/',
    ])
      expect(adapter.validate({ ...configOf('127.0.0.1'), proxy: { url } })).toMatchObject([{ path: 'proxy.url' }]);
    const nameless = { proxy: { url: 'http://127.0.0.1', password: 'x' } };
    expect(adapter.validate({ ...configOf('127.0.0.1'), ...nameless })).toMatchObject([{ path: 'proxy.username' }]);
    const injected = { proxy: { url: 'http://127.0.0.1', username: 'a\r\nX: y', password: 'x' } };
    expect(adapter.validate({ ...configOf('127.0.0.1'), ...injected })).toMatchObject([{ path: 'proxy.username' }]);
  });
});
