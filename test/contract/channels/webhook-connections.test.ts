import { createPublicKey, verify } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { Webhook } from 'standardwebhooks';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PluggedChannels } from '../../../src/app/channel-catalog.js';
import { WebhookAdapter } from '../../../src/channels/adapters/webhook.js';
import { Egress } from '../../../src/channels/net/egress.js';
import { ChannelRegistry } from '../../../src/channels/registry.js';
import { newSecret, publicKeyOf } from '../../../src/channels/webhook/standard-webhooks.js';
import type { JsonObject } from '../../../src/domain/vocabulary.js';
import { LOCALHOST } from '../../support/peers/certificate.js';
import { CLIENT } from '../../support/peers/client-certificate.js';
import { type HttpPeer, type Reaction, startHttpPeer } from '../../support/peers/http-peer.js';
import { type HttpProxy, startHttpProxy } from '../../support/peers/http-proxy.js';
import { startWebhookReceiver, type WebhookReceiver } from '../../support/peers/webhook-receiver.js';
import { LOOPBACK, messageOf, options } from './conformance.js';

/** How a webhook proves who sends it, and the ways it goes: keys, certificates, tokens, proxies, and what answers mean. */

let receiver: WebhookReceiver;
let egress: Egress;
let adapter: WebhookAdapter;

beforeEach(async () => {
  receiver = await startWebhookReceiver();
  egress = new Egress({ allowedNetworks: LOOPBACK });
  adapter = new WebhookAdapter(egress, 'Waybill/test');
});
afterEach(async () => {
  await receiver.close();
  await egress.close();
});
const content = { data: { type: 'report.ready', figure: 42 } };
const send = (change: JsonObject = {}, signal?: AbortSignal) =>
  adapter.send(messageOf({ url: receiver.url, ...change }, content), options(signal));
const problemsOf = (change: JsonObject) => adapter.validate({ url: receiver.url, ...change }).map(({ path }) => path);

describe('ed25519 signatures', () => {
  /** As a receiver does it that knows nothing but the public key (RFC 8410 around its 32 bytes). */
  const isSignedBy = (publicKey: string, { raw, headers }: WebhookReceiver['received'][number]) => {
    const bytes = Buffer.from(publicKey.replace(/^whpk_/, ''), 'base64');
    const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), bytes]);
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    const signed = Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.${raw}`);
    const given = String(headers['webhook-signature']).split(' ');
    return given.some(
      (each) => each.startsWith('v1a,') && verify(null, signed, key, Buffer.from(each.slice(4), 'base64')),
    );
  };
  const received = (index: number) => receiver.received[index] as WebhookReceiver['received'][number];

  it('are verified with the public key that the configuration shows', async () => {
    const catalog = new PluggedChannels(new ChannelRegistry([adapter]), []);
    const secret = newSecret('ed25519');
    const config = { webhook: { url: receiver.url, signature: 'ed25519', secret } };
    const { publicKey } = catalog.completed('WEBHOOK', config).webhook as { publicKey: string };
    expect(publicKey).toMatch(/^whpk_[A-Za-z0-9+/]{43}=$/);
    await send({ signature: 'ed25519', secret });
    expect(isSignedBy(publicKey, received(0))).toBe(true);
    expect(isSignedBy(publicKeyOf(newSecret('ed25519')) as string, received(0))).toBe(false);
    expect(isSignedBy(publicKey, { ...received(0), raw: received(0).raw.replace('42', '43') })).toBe(false);
  });

  it('stand beside those of the secret before, of either kind, until its time is over', async () => {
    const shared = newSecret('hmac-sha256');
    const key = newSecret('ed25519');
    const until = (ms: number) => new Date(Date.now() + ms).toISOString();
    await send({ signature: 'ed25519', secret: key, previousSecret: shared, previousSecretUntil: until(60_000) });
    await send({ signature: 'ed25519', secret: key, previousSecret: shared, previousSecretUntil: until(-1) });
    const verified = (index: number) => () =>
      new Webhook(shared).verify(received(index).raw, received(index).headers as Record<string, string>);
    expect(verified(0)).not.toThrow();
    expect(verified(1)).toThrow();
    for (const index of [0, 1]) expect(isSignedBy(publicKeyOf(key) as string, received(index))).toBe(true);
  });

  it('take a key as its seed, or with the public key behind it, and no other', () => {
    const seed = Buffer.from(newSecret('ed25519').slice(5), 'base64');
    const half = Buffer.from((publicKeyOf(`whsk_${seed.toString('base64')}`) as string).slice(5), 'base64');
    const whole = Buffer.concat([seed, half]);
    const secretOf = (bytes: Buffer) => ({ signature: 'ed25519', secret: `whsk_${bytes.toString('base64')}` });
    expect(problemsOf(secretOf(seed))).toEqual([]);
    expect(problemsOf(secretOf(whole))).toEqual([]);
    whole[63] = (whole[63] ?? 0) ^ 1;
    expect(problemsOf(secretOf(whole))).toEqual(['secret']);
    expect(problemsOf(secretOf(seed.subarray(1)))).toEqual(['secret']);
    expect(problemsOf({ secret: newSecret('ed25519') })).toEqual(['secret']);
    expect(problemsOf({ signature: 'ed25519', secret: newSecret('hmac-sha256') })).toEqual(['secret']);
    expect(problemsOf({ signature: 'rsa' })).toEqual(['signature']);
  });
});

describe('mutual TLS', () => {
  let server: Server;
  let url: string;
  const shown: (string | undefined)[] = [];
  const { cert, key, passphrase } = CLIENT;

  beforeEach(async () => {
    shown.length = 0;
    server = createServer(
      { ...LOCALHOST, ca: CLIENT.ca, requestCert: true, rejectUnauthorized: true },
      (request, response) => {
        shown.push((request.socket as TLSSocket).getPeerCertificate().subject.CN as string);
        response.writeHead(204).end();
      },
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `https://localhost:${(server.address() as AddressInfo).port}/in`;
  });
  afterEach(() => void server.close().closeAllConnections());

  it('shows the certificate to a server that demands one, and trusts the authority that is named', async () => {
    expect(await send({ url, tls: { cert, key, passphrase, ca: LOCALHOST.cert } })).toMatchObject({ kind: 'accepted' });
    expect(shown).toEqual(['waybill-client']);
  });

  it('is refused without a certificate, and refuses a server nobody vouches for', async () => {
    expect(await send({ url, tls: { ca: LOCALHOST.cert } })).toMatchObject({ category: 'NETWORK' });
    expect(await send({ url, tls: { cert, key, passphrase } })).toMatchObject({ code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
    expect(await send({ url, tls: { cert, key, passphrase, ca: CLIENT.ca } })).toMatchObject({ category: 'NETWORK' });
    expect(shown).toEqual([]);
  });

  it('keeps connections apart: one made with a certificate is not used without it', async () => {
    const tls = { cert, key, passphrase, ca: LOCALHOST.cert };
    expect(await send({ url, tls })).toMatchObject({ kind: 'accepted' });
    expect(await send({ url, tls: { ca: LOCALHOST.cert } })).toMatchObject({ kind: 'rejected' });
  });

  it('also goes through a proxy', async () => {
    const proxy = await startHttpProxy();
    const way = { tls: { cert, key, passphrase, ca: LOCALHOST.cert }, proxy: { url: proxy.url } };
    expect(await send({ url, ...way })).toMatchObject({ kind: 'accepted' });
    expect(shown).toEqual(['waybill-client']);
    expect(proxy.asked).toHaveLength(1);
    await proxy.close();
  });

  it.each([
    ['no key', { cert }, 'tls.key'],
    ['no certificate', { key, passphrase }, 'tls.cert'],
    ['a key without its passphrase', { cert, key }, 'tls.key'],
    ['a wrong passphrase', { cert, key, passphrase: 'x' }, 'tls.key'],
    ['the key of another certificate', { cert, key: LOCALHOST.key }, 'tls.key'],
    ['a certificate that is none', { cert: 'x', key, passphrase }, 'tls.cert'],
    ['an authority that is none', { ca: LOCALHOST.key }, 'tls.ca'],
  ])('reports %s', (_, tls, path) => {
    expect(problemsOf({ tls })).toEqual([path]);
  });
});

describe('OAuth 2.0 client credentials', () => {
  let server: HttpPeer;
  let answer: (issued: number) => Reaction;
  let issued = 0;
  const oauth = (more: JsonObject = {}): JsonObject => ({
    oauth: {
      tokenUrl: `${server.origin}/token`,
      clientId: 'way:bill',
      clientSecret: 'cl1ent secret',
      ...more,
    },
  });

  beforeEach(async () => {
    issued = 0;
    answer = (number) => ({ body: { access_token: `token-${number}`, token_type: 'Bearer', expires_in: 3_600 } });
    server = await startHttpPeer(() => answer(++issued));
  });
  afterEach(() => server.close());
  const tokens = () => receiver.received.map(({ headers }) => headers.authorization);

  it('asks once, however many messages there are', async () => {
    const config = { url: receiver.url, ...oauth({ scope: 'hooks.write', audience: 'hospital' }) };
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        adapter.send(messageOf(config, content), { ...options(), attemptKey: `a${n}` }),
      ),
    );
    expect(outcomes.every(({ kind }) => kind === 'accepted')).toBe(true);
    expect(new Set(tokens())).toEqual(new Set(['Bearer token-1']));
    expect(server.received).toHaveLength(1);
    const [asked] = server.received;
    expect(asked?.headers['content-type']).toBe('application/x-www-form-urlencoded');
    expect(Object.fromEntries(new URLSearchParams(asked?.raw))).toEqual({
      grant_type: 'client_credentials',
      scope: 'hooks.write',
      audience: 'hospital',
    });
    const login = Buffer.from(String(asked?.headers.authorization).slice('Basic '.length), 'base64').toString();
    expect(login).toBe('way%3Abill:cl1ent+secret');
  });

  it('sends client and secret in the body, where the server wants them there', async () => {
    await send(oauth({ authentication: 'body' }));
    expect(server.received[0]?.headers).not.toHaveProperty('authorization');
    expect(server.received[0]?.raw).toContain('client_id=way%3Abill&client_secret=cl1ent+secret');
  });

  it('asks again when a token is over', async () => {
    answer = (number) => ({ body: { access_token: `token-${number}`, expires_in: 60 } });
    await send(oauth());
    await send(oauth());
    expect(tokens()).toEqual(['Bearer token-1', 'Bearer token-2']);
  });

  it('answers a 401 with another token once, under the same id', async () => {
    receiver.respond = ({ headers }) => ({ status: headers.authorization === 'Bearer token-1' ? 401 : 204 });
    expect(await send(oauth())).toMatchObject({ kind: 'accepted' });
    expect(tokens()).toEqual(['Bearer token-1', 'Bearer token-2']);
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    receiver.respond = () => ({ status: 401 });
    expect(await send(oauth())).toMatchObject({ category: 'AUTHENTICATION', code: 'HTTP_401' });
    expect(receiver.received).toHaveLength(4);
    expect(server.received).toHaveLength(3);
  });

  it('renews once for many that were refused at the same time', async () => {
    receiver.respond = ({ headers }) => ({
      status: headers.authorization === 'Bearer token-1' ? 401 : 204,
      delayMs: 20,
    });
    const config = { url: receiver.url, ...oauth() };
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, () => adapter.send(messageOf(config, content), options())),
    );
    expect(outcomes.every(({ kind }) => kind === 'accepted')).toBe(true);
    expect(server.received).toHaveLength(2);
  });

  it.each([
    [
      { status: 401, body: { error: 'invalid_client' } },
      { category: 'AUTHENTICATION', code: 'OAUTH_401' },
    ],
    [
      { status: 400, body: { error: 'invalid_scope' } },
      { category: 'AUTHENTICATION', code: 'OAUTH_400' },
    ],
    [{ status: 503 }, { category: 'TEMPORARY', code: 'OAUTH_503' }],
    [
      { status: 429, headers: { 'retry-after': '5' } },
      { category: 'RATE_LIMIT', code: 'OAUTH_429', retryAfterMs: 5_000 },
    ],
    [{ body: { token: 'x' } }, { category: 'AUTHENTICATION', code: 'OAUTH_NO_TOKEN' }],
    [{ body: { access_token: 'a\r\nX: y' } }, { category: 'AUTHENTICATION', code: 'OAUTH_NO_TOKEN' }],
    [
      { status: 302, headers: { location: 'http://127.0.0.1:1/' } },
      { category: 'PERMANENT', code: 'OAUTH_302' },
    ],
    ['drop' as const, { category: 'NETWORK' }],
  ])('takes a token endpoint that answers %o for what it is, and sends nothing', async (given, expected) => {
    answer = () => given;
    const outcome = await send(oauth());
    expect(outcome).toMatchObject({ kind: 'rejected', ...expected });
    expect(outcome).not.toHaveProperty('inDoubt');
    expect(JSON.stringify(outcome)).not.toContain('cl1ent');
    expect(receiver.received).toHaveLength(0);
    answer = (number) => ({ body: { access_token: `token-${number}` } });
    expect(await send(oauth())).toMatchObject({ kind: 'accepted' });
  });

  it('stops waiting for a token when it is told to', async () => {
    answer = () => 'silence';
    const controller = new AbortController();
    const sending = send(oauth(), controller.signal);
    await expect.poll(() => server.received.length, { timeout: 10_000 }).toBe(1);
    controller.abort();
    expect(await sending).toMatchObject({ category: 'NETWORK', code: 'ABORTED' });
  });

  it('does not ask a private address, also when a name leads to it', async () => {
    const resolver = ((_: string, __: object, done: (error: null, found: object[]) => void) =>
      done(null, [{ address: '10.0.0.1', family: 4 }])) as never;
    const strict = new Egress({ allowedNetworks: LOOPBACK, resolver });
    const guarded = new WebhookAdapter(strict, 'Waybill/test');
    const config = { url: receiver.url, ...oauth({ tokenUrl: 'http://tokens.test/' }) };
    expect(guarded.validate(config)).toEqual([]);
    const outcome = await guarded.send(messageOf(config, content), options());
    expect(outcome).toMatchObject({ category: 'CONFIGURATION', code: 'BLOCKED_ADDRESS' });
    expect(problemsOf(oauth({ tokenUrl: 'http://169.254.169.254/token' }))).toEqual(['oauth.tokenUrl']);
    await strict.close();
  });

  it('tests the credentials too', async () => {
    const { signal } = new AbortController();
    const config = { url: receiver.url, ...oauth() };
    expect(await adapter.test(config, { signal })).toMatchObject({ ok: true });
    answer = () => ({ status: 401 });
    const other = { url: receiver.url, ...oauth({ clientId: 'other' }) };
    expect(await adapter.test(other, { signal })).toMatchObject({ ok: false, problems: [{ path: 'oauth' }] });
  });

  it.each([
    [{ clientId: 'a\r\nX: y' }, 'oauth.clientId'],
    [{ clientSecret: '' }, 'oauth.clientSecret'],
    [{ authentication: 'digest' }, 'oauth.authentication'],
    [{ tokenUrl: 'ftp://x/' }, 'oauth.tokenUrl'],
    [{ colour: 'green' }, 'oauth.colour'],
  ])('reports %o', (change, path) => {
    expect(problemsOf(oauth(change))).toEqual([path]);
    expect(problemsOf({ ...oauth(), headers: { authorization: 'mine' } })).toEqual(['headers.authorization']);
  });
});

describe('a proxy', () => {
  let proxy: HttpProxy | undefined;
  afterEach(() => proxy?.close());

  it('is told the address that was judged, and makes a tunnel for the login', async () => {
    proxy = await startHttpProxy({ login: 'way:b:ill' });
    const way = { proxy: { url: proxy.url, username: 'way', password: 'b:ill' } };
    for (let sent = 0; sent < 3; sent++)
      expect(await send({ url: `http://localhost:${receiver.port}/in`, ...way })).toMatchObject({ kind: 'accepted' });
    expect(receiver.received).toHaveLength(3);
    expect(receiver.received[0]?.headers.host).toBe(`localhost:${receiver.port}`);
    expect(receiver.received[0]?.headers).not.toHaveProperty('proxy-authorization');
    for (const { authority } of proxy.asked) expect(authority).toBe(`127.0.0.1:${receiver.port}`);
  });

  it.each([
    [407, 'AUTHENTICATION'],
    [403, 'CONFIGURATION'],
    [502, 'NETWORK'],
  ])('that answers %i is a matter of %s', async (status, category) => {
    proxy = await startHttpProxy(status === 407 ? { login: 'a:b' } : { status });
    const outcome = await send({
      proxy: { url: proxy.url, ...(status === 407 && { username: 'a', password: 'wrong' }) },
    });
    expect(outcome).toMatchObject({ kind: 'rejected', category, code: `PROXY_${status}` });
    expect(outcome).not.toHaveProperty('inDoubt');
    expect(JSON.stringify(outcome)).not.toContain('wrong');
    expect(receiver.received).toHaveLength(0);
  });

  it('does not lead to what is guarded: neither the target nor the proxy', async () => {
    proxy = await startHttpProxy();
    const resolver = ((_: string, __: object, done: (error: null, found: object[]) => void) =>
      done(null, [{ address: '10.0.0.1', family: 4 }])) as never;
    const strict = new Egress({ allowedNetworks: LOOPBACK, resolver });
    const guarded = new WebhookAdapter(strict, 'Waybill/test');
    const sendTo = (config: JsonObject) => guarded.send(messageOf(config, content), options());
    expect(await sendTo({ url: 'http://inside.test/', proxy: { url: proxy.url } })).toMatchObject({
      code: 'BLOCKED_ADDRESS',
    });
    expect(await sendTo({ url: 'http://10.0.0.9/', proxy: { url: proxy.url } })).toMatchObject({
      code: 'BLOCKED_ADDRESS',
    });
    expect(await sendTo({ url: receiver.url, proxy: { url: 'http://proxy.test:1' } })).toMatchObject({
      code: 'BLOCKED_ADDRESS',
    });
    expect(proxy.asked).toEqual([]);
    expect(problemsOf({ proxy: { url: 'http://10.0.0.1:3128' } })).toEqual(['proxy.url']);
    expect(problemsOf({ proxy: { url: proxy.url, password: 'x' } })).toEqual(['proxy.username']);
    expect(problemsOf({ proxy: { url: proxy.url, username: 'a\r\nb', password: 'x' } })).toEqual(['proxy.username']);
    await strict.close();
  });

  it('that speaks no HTTP, or hangs up, is a matter of the network', async () => {
    const talker = await startHttpPeer(() => 'drop');
    expect(await send({ proxy: { url: talker.origin } })).toMatchObject({ category: 'NETWORK' });
    await talker.close();
  });
});

describe('response rules', () => {
  const rules: JsonObject = {
    responseRules: [
      { outcome: 'permanent', statuses: [200], field: 'result.code', equals: 17 },
      { outcome: 'retry', statuses: [200, 202], contains: 'busy' },
      { outcome: 'success', statuses: [409] },
      { outcome: 'retry', statuses: [404] },
    ],
  };
  it.each([
    [
      { status: 200, body: { result: { code: 17 } } },
      { kind: 'rejected', category: 'PERMANENT', code: 'RULE_200' },
    ],
    [{ status: 200, body: { result: { code: 0 } } }, { kind: 'accepted' }],
    [{ status: 200, body: 'no JSON' }, { kind: 'accepted' }],
    [
      { status: 202, body: 'I am busy', headers: { 'retry-after': '3' } },
      { kind: 'rejected', category: 'TEMPORARY', code: 'RULE_202', retryAfterMs: 3_000 },
    ],
    [{ status: 409 }, { kind: 'accepted' }],
    [{ status: 404 }, { kind: 'rejected', category: 'TEMPORARY', code: 'RULE_404' }],
    [{ status: 400 }, { kind: 'rejected', category: 'VALIDATION', code: 'HTTP_400' }],
    [
      { status: 200, body: `${'x'.repeat(10_000)}busy` },
      { kind: 'rejected', category: 'TEMPORARY' },
    ],
  ])('read %o', async (answer, expected) => {
    receiver.respond = () => answer;
    expect(await send(rules)).toMatchObject(expected);
  });

  it.each([
    [[{ outcome: 'success' }], 'responseRules.0.statuses'],
    [[{ outcome: 'success', statuses: [99] }], 'responseRules.0.statuses.0'],
    [[{ outcome: 'maybe', statuses: [200] }], 'responseRules.0.outcome'],
    [[{ outcome: 'success', statuses: [200], equals: 1 }], 'responseRules.0.equals'],
    [[{ outcome: 'success', field: '__proto__[0]' }], 'responseRules.0.field'],
  ])('report %o', (responseRules, path) => {
    expect(problemsOf({ responseRules } as JsonObject)).toEqual([path]);
  });
});
