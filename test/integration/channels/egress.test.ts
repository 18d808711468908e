import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BlockedAddressError, Egress } from '../../../src/channels/net/egress.js';
import { startWebhookReceiver, type WebhookReceiver } from '../../support/peers/webhook-receiver.js';

/** A resolver that gives the listed addresses in turn, the last one for ever: DNS as an attacker runs it. */
function resolverGiving(...answers: string[][]) {
  const resolver = (_: string, __: object, done: (error: null, found: object[]) => void) => {
    const addresses = answers.length > 1 ? answers.shift() : answers[0];
    done(
      null,
      (addresses ?? []).map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  };
  return resolver as never;
}

describe('egress', () => {
  let receiver: WebhookReceiver;
  let egress: Egress;

  beforeEach(async () => {
    receiver = await startWebhookReceiver();
  });
  afterEach(async () => {
    await receiver.close();
    await egress.close();
  });
  const request = (host: string) =>
    egress
      .dispatcher({})
      .request({ origin: `http://${host}:${receiver.port}`, path: '/', method: 'GET' })
      .then(({ statusCode }) => statusCode);

  it.each([
    '127.0.0.1',
    '10.1.2.3',
    '172.16.0.1',
    '192.168.1.1',
    '169.254.169.254',
    '100.64.0.1',
    '0.0.0.0',
    '255.255.255.255',
    '224.0.0.1',
    '192.0.2.1',
    '[::1]',
    '[::]',
    '[::ffff:127.0.0.1]', // IPv4-mapped
    '[::127.0.0.1]', // IPv4-compatible
    '[64:ff9b::127.0.0.1]', // NAT64
    '[64:ff9b:1::127.0.0.1]', // local NAT64
    '[2002:7f00:1::]', // 6to4
    '[2001:0:7f00:1::]', // Teredo
    '[::ffff:0:127.0.0.1]', // stateless translation
    '[fe80::1]',
    '[fd00::1]',
    '[fec0::1]',
    '[ff02::1]',
    '[4000::1]',
    '2130706433', // 127.0.0.1 in one number
    '0x7f.1',
    'localhost',
    'LOCALHOST.',
    'app.localhost',
  ])('refuses %s when it is stored and when it is connected to', async (host) => {
    egress = new Egress({ allowedNetworks: [], resolver: resolverGiving(['127.0.0.1', '::1']) });
    expect(egress.problemWithUrl(`http://${host}/`)).toMatch(/not a public address/);
    await expect(request(host)).rejects.toMatchObject({ code: 'BLOCKED_ADDRESS' });
    const name = new URL(`http://${host}/`).hostname.replace(/^\[|\]$/g, '');
    await expect(egress.connect(name, receiver.port)).rejects.toThrow(BlockedAddressError);
    expect(receiver.connections()).toBe(0);
  });

  it.each(['https://example.com/', 'https://8.8.8.8/', 'http://[2606:4700::1111]/', 'http://[64:ff9b::8.8.8.8]/'])(
    'lets %s pass',
    (url) => {
      egress = new Egress({ allowedNetworks: [] });
      expect(egress.problemWithUrl(url)).toBeUndefined();
    },
  );

  it.each([
    ['ftp://example.com/', /http or https/],
    ['file:///etc/passwd', /http or https/],
    ['https://user:pass@example.com/', /credentials/],
    ['example.com', /not a URL/],
    ['https://example.com/a\r\nX-Injected: yes', /line breaks/],
    ['https://exam\tple.com/', /tabs/],
    ['https://example.com/\n', /line breaks/],
    ['https://example.com/\0', /control characters/],
  ])('says what is wrong with %j', (url, problem) => {
    egress = new Egress({ allowedNetworks: [] });
    expect(egress.problemWithUrl(url)).toMatch(problem);
  });

  it.each(['127.0.0.1', '[::ffff:127.0.0.1]', 'localhost'])('reaches %s in an allowed network', async (host) => {
    egress = new Egress({ allowedNetworks: ['127.0.0.0/8'] });
    expect(egress.problemWithUrl(`http://${host}/`)).toBeUndefined();
    expect(await request(host)).toBe(204);
    expect(egress.isInternal('127.0.0.1')).toBe(true);
    expect(egress.isInternal('8.8.8.8')).toBe(false);
  });

  it('refuses a name that has turned to an inner address since it was checked', async () => {
    egress = new Egress({ allowedNetworks: [], resolver: resolverGiving(['93.184.216.34'], ['127.0.0.1']) });
    const resolve = (all: boolean) =>
      new Promise((done) => egress.lookup('rebinding.test', { all }, (error, address) => done(error ?? address)));
    expect(await resolve(false)).toBe('93.184.216.34');
    expect(await resolve(false)).toBeInstanceOf(BlockedAddressError);
    await expect(request('rebinding.test')).rejects.toMatchObject({ code: 'BLOCKED_ADDRESS' });
    expect(receiver.connections()).toBe(0);
  });

  it('connects only to the good addresses of a name that has both kinds', async () => {
    egress = new Egress({ allowedNetworks: [], resolver: resolverGiving(['10.0.0.1', '93.184.216.34', '::1']) });
    const found = await new Promise((done) => egress.lookup('mixed.test', { all: true }, (_, all) => done(all)));
    expect(found).toEqual([{ address: '93.184.216.34', family: 4 }]);
  });

  it('passes on what the resolver says', async () => {
    const failing = ((_: string, __: object, done: (error: Error) => void) =>
      done(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }))) as never;
    egress = new Egress({ allowedNetworks: [], resolver: failing });
    await expect(request('nowhere.test')).rejects.toMatchObject({ code: 'ENOTFOUND' });
    await expect(egress.connect('nowhere.test', 25)).rejects.toMatchObject({ code: 'ENOTFOUND' });
  });

  it('names the network it cannot read', async () => {
    egress = new Egress({ allowedNetworks: [] });
    expect(() => new Egress({ allowedNetworks: ['10.0.0.0/8', '10.0.0.0/33'] })).toThrow(/"10\.0\.0\.0\/33"/);
    expect(() => new Egress({ allowedNetworks: ['intranet'] })).toThrow(/"intranet".*CIDR/);
  });

  it('gives up connecting when the time is over or nobody wants it any more', async () => {
    egress = new Egress({ allowedNetworks: [], resolver: (() => undefined) as never }); // never answers
    await expect(egress.connect('slow.test', 25, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'CONNECT_TIMEOUT' });
    const controller = new AbortController();
    const connecting = egress.connect('slow.test', 25, { signal: controller.signal });
    controller.abort();
    await expect(connecting).rejects.toMatchObject({ name: 'AbortError' });
  });
});
