import { execFileSync } from 'node:child_process';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { readCertificate } from '../../src/http/tls.js';
import { RateLimits } from '../../src/security/rate-limits.js';
import { LOCALHOST } from '../support/peers/certificate.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'waybill-tls-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('the API over TLS', () => {
  let waybill: WaybillProcess;
  const file = (name: string) => join(folder, name);

  beforeAll(async () => {
    await writeFile(file('cert.pem'), LOCALHOST.cert);
    await writeFile(file('key.pem'), LOCALHOST.key);
    const config = { tls: { certFile: file('cert.pem'), keyFile: file('key.pem') } };
    await writeFile(file('waybill.yaml'), JSON.stringify(config));
    waybill = await startWaybill({ env: { WAYBILL_CONFIG: file('waybill.yaml'), WAYBILL_LOG_LEVEL: 'info' } });
  }, 120_000);
  afterAll(() => waybill?.stop());

  const open = (options: object) =>
    new Promise<TLSSocket>((resolve, reject) => {
      const { port } = new URL(waybill.url);
      const settings = {
        host: '127.0.0.1',
        port: Number(port),
        servername: 'localhost',
        ca: [LOCALHOST.cert],
        ...options,
      };
      const socket = connect(settings, () => resolve(socket)).on('error', reject);
    });

  it('answers with TLS 1.3, with 1.2 to those who have no newer, and to nobody with less', async () => {
    expect(waybill.url).toMatch(/^https:/);
    for (const [options, version] of [
      [{}, 'TLSv1.3'],
      [{ maxVersion: 'TLSv1.2' }, 'TLSv1.2'],
    ] as const) {
      const socket = await open(options);
      expect(socket.getProtocol()).toBe(version);
      socket.destroy();
    }
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
    await expect(open(old)).rejects.toThrow(/protocol|version|alert/i);
  });

  it('believes nobody who says for whom they ask where no proxy is trusted', async () => {
    await new Promise<void>((resolve, reject) => {
      const headers = {
        'content-type': 'application/json',
        authorization: 'Bearer wrong',
        'x-forwarded-for': '198.51.100.9',
      };
      const options = { method: 'POST', ca: LOCALHOST.cert, servername: 'localhost', headers };
      request(`${waybill.url}/graphql`, options, (response) => response.resume().on('end', resolve))
        .on('error', reject)
        .end('{"query":"{ me { actor } }"}');
    });
    const asked = JSON.stringify({ query: '{ auditTrail { edges { node { action address } } } }' });
    const trail = () =>
      new Promise<string>((resolve, reject) => {
        const headers = { 'content-type': 'application/json', authorization: `Bearer ${waybill.adminKey}` };
        const options = { method: 'POST', ca: LOCALHOST.cert, servername: 'localhost', headers };
        request(`${waybill.url}/graphql`, options, async (response) => resolve((await response.toArray()).join('')))
          .on('error', reject)
          .end(asked);
      });
    await expect.poll(trail, { timeout: 30_000 }).toContain('"action":"authenticate","address":"127.0.0.1"');
    expect(await trail()).not.toContain('198.51.100.9');
  });

  it('tells browsers to stay with TLS', async () => {
    const headers = await new Promise<Record<string, unknown>>((resolve, reject) => {
      request(`${waybill.url}/health`, { ca: LOCALHOST.cert, servername: 'localhost' }, (response) => {
        response.resume();
        resolve(response.headers);
      })
        .on('error', reject)
        .end();
    });
    expect(headers['strict-transport-security']).toBe('max-age=31536000');
  });

  it('takes a renewed certificate into use without a restart, and keeps the old one while files are unusable', async () => {
    const serial = async () => {
      const socket = await open({ rejectUnauthorized: false });
      const { serialNumber } = socket.getPeerCertificate() as DetailedPeerCertificate;
      socket.destroy();
      return serialNumber;
    };
    const before = await serial();
    await writeFile(file('cert.pem'), 'half written');
    await expect.poll(() => waybill.output(), { timeout: 20_000 }).toContain('tls.certFile');
    expect(await serial()).toBe(before);
    const subject = ['-subj', '/CN=localhost', '-days', '30', '-nodes'];
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-keyout', file('new-key.pem')];
    execFileSync('openssl', ['req', '-x509', ...key, '-out', file('new-cert.pem'), ...subject], { stdio: 'ignore' });
    await copyFile(file('new-key.pem'), file('key.pem'));
    await copyFile(file('new-cert.pem'), file('cert.pem'));
    await expect.poll(serial, { timeout: 20_000 }).not.toBe(before);
  });
});

describe('limits, origins and proxies', () => {
  let waybill: WaybillProcess;
  const ORIGIN = 'https://console.example.com';
  const LIMIT = 8;

  beforeAll(async () => {
    const config = {
      corsOrigins: [ORIGIN],
      trustedProxies: ['127.0.0.1/32'],
      limits: { requestsPerMinute: LIMIT, maxQueryCost: 30 },
      auth: { maxFailures: 3 },
    };
    await writeFile(join(folder, 'limits.yaml'), JSON.stringify(config));
    waybill = await startWaybill({ env: { WAYBILL_CONFIG: join(folder, 'limits.yaml') } });
  }, 240_000);
  afterAll(() => waybill?.stop());

  const post = async (key: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${waybill.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}`, ...headers },
      body: '{"query":"{ me { actor } }"}',
    });
    return { status: response.status, headers: response.headers, body: (await response.json()) as Refusal };
  };
  const keyOf = async (organizationId: string): Promise<string> => {
    const input = { organizationId, name: 'a program', roles: ['auditor'] };
    const query = 'mutation ($input: ApiKeyInput!) { createApiKey(input: $input) { secret } }';
    return (await waybill.ask<{ createApiKey: { secret: string } }>(query, { input })).createApiKey.secret;
  };
  const subscribe = (secret: string, query: string) => {
    const client = createClient({
      url: `${waybill.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      connectionParams: { authorization: `Bearer ${secret}` },
      retryAttempts: 0,
    });
    return client
      .iterate({ query })
      .next()
      .finally(() => client.dispose());
  };

  it('too many requests of a credential are answered with 429, and when to come back', async () => {
    const key = await keyOf('org-limited');
    for (let n = 1; n <= LIMIT; n++) {
      const { status, headers } = await post(key);
      expect([status, headers.get('ratelimit-remaining')]).toEqual([200, String(LIMIT - n)]);
      expect(headers.get('retry-after')).toBeNull();
    }
    const { status, headers, body } = await post(key);
    expect(status).toBe(429);
    expect(headers.get('ratelimit-limit')).toBe(String(LIMIT));
    expect(headers.get('ratelimit-policy')).toBe(`${LIMIT};w=60`);
    expect(headers.get('ratelimit-remaining')).toBe('0');
    const seconds = Number(headers.get('retry-after'));
    expect(headers.get('ratelimit-reset')).toBe(String(seconds));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(60);
    expect(body.errors[0]?.extensions).toMatchObject({ code: 'RATE_LIMITED', retryAfterSeconds: seconds });
    // Of this credential: others are not kept waiting.
    expect((await post(await keyOf('org-limited'))).status).toBe(200);
  });

  it('subscriptions count as requests do, and have a cost', async () => {
    const fields = Array.from({ length: 40 }, (_, n) => `f${n}: status`).join(' ');
    const costly = `subscription { deliveryUpdated { ${fields} } }`;
    const key = await keyOf('org-subscribing');
    await expect(subscribe(key, costly)).rejects.toMatchObject([
      { message: expect.stringContaining('points, more than the limit of 30') },
    ]);
    for (let n = 1; n < LIMIT; n++) await subscribe(key, costly).catch(() => undefined);
    await expect(subscribe(key, 'subscription { deliveryUpdated { id } }')).rejects.toMatchObject([
      { message: `these credentials may make ${LIMIT} requests a minute` },
    ]);
  });

  it('the API is open to the origins that are named, and to no other', async () => {
    const preflight = async (origin: string) => {
      const headers = {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization',
      };
      return (await fetch(`${waybill.url}/graphql`, { method: 'OPTIONS', headers })).headers;
    };
    const named = await preflight(ORIGIN);
    expect(named.get('access-control-allow-origin')).toBe(ORIGIN);
    expect(named.get('access-control-allow-methods')).toMatch(/POST/);
    expect(named.get('access-control-max-age')).toBe('600');
    expect((await post(waybill.adminKey, { origin: ORIGIN })).headers.get('access-control-allow-origin')).toBe(ORIGIN);
    for (const origin of ['https://evil.example', `${ORIGIN}.evil.example`, 'http://console.example.com', 'null']) {
      expect((await preflight(origin)).get('access-control-allow-origin')).toBeNull();
      const { headers } = await post(waybill.adminKey, { origin });
      expect(headers.get('access-control-allow-origin')).toBeNull();
    }
  });

  it('a trusted proxy says who the caller is, so that one who guesses keeps nobody else out', async () => {
    const from = (address: string) => post('wrong', { 'x-forwarded-for': address });
    for (let n = 0; n < 3; n++) expect((await from('198.51.100.1')).status).toBe(401);
    const blocked = await from('198.51.100.1');
    expect(blocked.status).toBe(429);
    expect(Number(blocked.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await from('198.51.100.2')).status).toBe(401);
    // What stands left of the address that the proxy has added is whatever the caller made up.
    expect((await from('203.0.113.9, 198.51.100.1')).status).toBe(429);
  });
});

interface Refusal {
  readonly errors: readonly { readonly extensions: object }[];
}

it('a certificate that cannot be used is named before anything starts', async () => {
  const files = { certFile: join(folder, 'c.pem'), keyFile: join(folder, 'k.pem') };
  expect(() => readCertificate(files)).toThrow(/^tls\.certFile: cannot read .*ENOENT/);
  await writeFile(files.certFile, 'nonsense');
  await writeFile(files.keyFile, LOCALHOST.key);
  expect(() => readCertificate(files)).toThrow(/^tls\.certFile and tls\.keyFile: /);
});

it('requests are counted by credential and minute', () => {
  let now = 0;
  const limits = new RateLimits(2, () => now);
  expect(limits.take('a')).toEqual({ limit: 2, remaining: 1, resetSeconds: 60, isExceeded: false });
  now = 20_000;
  expect(limits.take('a')).toMatchObject({ remaining: 0, resetSeconds: 40, isExceeded: false });
  expect(limits.take('a')).toMatchObject({ remaining: 0, isExceeded: true });
  expect(limits.take('b')).toMatchObject({ remaining: 1, isExceeded: false });
  now = 60_000;
  expect(limits.take('a')).toMatchObject({ remaining: 1, isExceeded: false });
});
