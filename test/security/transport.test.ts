import { execFileSync } from 'node:child_process';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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
