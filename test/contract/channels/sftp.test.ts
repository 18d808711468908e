import { gunzipSync } from 'node:zlib';
import { decrypt, generateKey, readMessage, readPrivateKey } from 'openpgp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SftpAdapter } from '../../../src/channels/adapters/sftp.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { hasSshd, startOpenSsh } from '../../support/peers/openssh.js';
import { type SftpReaction, type SftpServerPeer, startSftpServer } from '../../support/peers/sftp-server.js';
import { sshKeys } from '../../support/peers/ssh-keys.js';
import { type Behaviour, conforms, LOOPBACK, messageOf, options } from './conformance.js';

const LOGIN = { username: 'waybill', password: 'p4ssw0rd-of-the-bank' };
const QUOTE = `${LOGIN.password} Ada Lovelace`;
const content: Content = {
  attachments: [
    { filename: 'ada.csv', contentType: 'text/csv', base64: Buffer.from('Ada Lovelace;1\n').toString('base64') },
  ],
  text: 'Ada Lovelace',
};

const REACTIONS: Readonly<Record<Behaviour, SftpReaction>> = {
  accepts: undefined,
  unavailable: { status: 4, text: `disk full ${QUOTE}` },
  unauthorized: 'refuse login',
  limited: undefined,
  silent: 'silence',
  drops: 'drop on rename',
};

const configOf = (peer: SftpServerPeer, change: JsonObject = {}): JsonObject => ({
  host: peer.host,
  port: peer.port,
  ...LOGIN,
  hostKeyFingerprint: peer.fingerprint,
  path: '/in/{organizationId}/{year}/{month}/{day}/',
  ...change,
});

conforms({
  name: 'sftp',
  create: (egress) => new SftpAdapter(egress),
  async start() {
    const peer = await startSftpServer(LOGIN);
    return {
      config: configOf(peer),
      port: peer.port,
      answer: (reaction: SftpReaction) => {
        peer.react = reaction;
      },
      behave: (behaviour: Behaviour) => {
        peer.react = REACTIONS[behaviour];
      },
      seen: peer.connections,
      accepted: () => [...peer.files.keys()].filter((path) => !path.endsWith('.part')).length,
      close: peer.close,
    };
  },
  bad: [
    { change: { host: '' }, path: 'host' },
    { change: { host: '10.0.0.1' }, path: 'host' },
    { change: { port: 0 }, path: 'port' },
    { change: { password: null }, path: 'password' },
    { change: { hostKeyFingerprint: 'MD5:00' }, path: 'hostKeyFingerprint' },
    { change: { hostKeyFingerprint: [] }, path: 'hostKeyFingerprint' },
    { change: { privateKey: 'not a key' }, path: 'privateKey' },
    { change: { path: '/in/../../etc/' }, path: 'path' },
    { change: { path: '/in/{customer}/' }, path: 'path' },
    { change: { path: '/in/{year/' }, path: 'path' },
    { change: { path: 'C:\\in\\' }, path: 'path' },
    { change: { fileMode: '888' }, path: 'fileMode' },
    { change: { compression: 'rar' }, path: 'compression' },
    { change: { encryption: { method: 'pgp', publicKey: 'nonsense' } }, path: 'encryption.publicKey' },
    { change: { encryption: { method: 'rot13' } }, path: 'encryption.method' },
  ],
  refusals: [
    {
      when: 'a forbidden path',
      behave: (peer) => peer.answer({ status: 3, text: QUOTE }),
      category: 'CONFIGURATION',
      code: 'SFTP_3',
    },
    {
      when: 'an operation the server does not know',
      behave: (peer) => peer.answer({ status: 8, text: QUOTE }),
      category: 'CONFIGURATION',
    },
    {
      when: 'a folder that is missing',
      change: { createDirectories: false },
      category: 'CONFIGURATION',
      code: 'SFTP_2',
    },
    { when: 'a wrong password', change: { password: 'wrong' }, category: 'AUTHENTICATION', code: 'SSH_AUTH' },
    {
      when: 'another host key',
      change: { hostKeyFingerprint: `SHA256:${'A'.repeat(43)}` },
      category: 'CONFIGURATION',
      code: 'HOST_KEY_MISMATCH',
    },
    {
      when: 'an upload that arrives damaged',
      behave: (peer) => peer.answer('spoil'),
      category: 'TEMPORARY',
      code: 'VERIFICATION_FAILED',
    },
  ],
  redirect: (port) => ({ port }),
  addresses: { good: '/outbox/{deliveryId}.pdf', bad: '../secrets' },
  content,
  oversized: { content, change: { maxBytes: 10 } },
  confidential: [LOGIN.password, 'Ada Lovelace'],
  never: ['limited'],
});

describe('sftp', () => {
  let peer: SftpServerPeer;
  let egress: Egress;
  let adapter: SftpAdapter;

  beforeEach(async () => {
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new SftpAdapter(egress);
    peer = await startSftpServer(LOGIN);
  });
  afterEach(async () => {
    adapter.close();
    await peer.close();
    await egress.close();
  });
  const send = (change: JsonObject = {}, more: Content = content) =>
    adapter.send(messageOf(configOf(peer, change), more), options());

  it('makes the folders, gives the file its permissions and leaves nothing beside it', async () => {
    await send({ fileMode: '600', directoryMode: '700' });
    const path = '/in/organization-1/2026/03/04/delivery-1-ada.csv';
    expect([...peer.files.keys()]).toEqual([path]);
    expect(peer.files.get(path)?.bytes.toString()).toBe('Ada Lovelace;1\n');
    expect(peer.files.get(path)?.mode).toBe(0o600);
    expect(peer.folders.get('/in/organization-1/2026')).toBe(0o700);
  });

  it('writes the same file again for another attempt, over what is there', async () => {
    await send();
    const again = { attachments: [{ filename: 'ada.csv', contentType: 'text/csv', base64: 'bmV3' }] };
    expect(await send({}, again)).toMatchObject({ kind: 'accepted', delivered: true });
    expect([...peer.files.values()].map(({ bytes }) => bytes.toString())).toEqual(['new']);
  });

  it('takes no path from a file name', async () => {
    const base64 = Buffer.from('x').toString('base64');
    const names = ['../../etc/passwd', '..', 'a\\b\0c', `${'ü'.repeat(300)}.pdf`];
    await send(
      { path: 'drop/{filename}' },
      { attachments: names.map((filename) => ({ filename, contentType: 'a/b', base64 })) },
    );
    const paths = [...peer.files.keys()];
    expect(paths.slice(0, 3)).toEqual(['/home/drop/.._.._etc_passwd', '/home/drop/_2', '/home/drop/a_b_c']);
    expect(Buffer.byteLength(paths[3] ?? '')).toBeLessThan(255);
    expect(paths[3]).toMatch(/\.pdf$/);
  });

  it('puts content without attachments into one file', async () => {
    await send({ path: 'a/{filename}' }, { data: { total: 42 } });
    await send({ path: 'b/{filename}' }, { subject: 'S', text: 'T', html: '<p>' });
    expect(JSON.parse(String(peer.files.get('/home/a/content.json')?.bytes))).toEqual({ total: 42 });
    expect(JSON.parse(String(peer.files.get('/home/b/content.json')?.bytes))).toEqual({
      subject: 'S',
      text: 'T',
      html: '<p>',
    });
  });

  it('will not give two files one name', async () => {
    const [file] = content.attachments ?? [];
    const outcome = await send({ path: '/in/report.csv' }, { attachments: [file, file] as never });
    expect(outcome).toMatchObject({ category: 'CONFIGURATION', code: 'PATH_NOT_DISTINCT' });
    await send({}, { attachments: [file, file] as never });
    expect([...peer.files.keys()]).toHaveLength(2);
  });

  it('compresses, then encrypts so that OpenPGP opens it', async () => {
    const { privateKey, publicKey } = await generateKey({ userIDs: [{ name: 'Bank' }], format: 'armored' });
    await send({ path: 'x/{filename}', compression: 'gzip', encryption: { method: 'pgp', publicKey } });
    const stored = peer.files.get('/home/x/ada.csv.gz.pgp')?.bytes ?? Buffer.alloc(0);
    const { data } = await decrypt({
      message: await readMessage({ binaryMessage: stored }),
      decryptionKeys: await readPrivateKey({ armoredKey: privateKey }),
      format: 'binary',
    });
    expect(gunzipSync(data).toString()).toBe('Ada Lovelace;1\n');
  });

  it('packs all files into one archive', async () => {
    const [file] = content.attachments ?? [];
    await send({ path: 'x/{filename}', compression: 'zip' }, { attachments: [file, file] as never });
    const { Uint8ArrayReader, ZipReader } = await import('@zip.js/zip.js');
    const archive = peer.files.get('/home/x/files.zip')?.bytes ?? Buffer.alloc(0);
    const entries = await new ZipReader(new Uint8ArrayReader(new Uint8Array(archive))).getEntries();
    expect(entries.map(({ filename }) => filename)).toEqual(['ada.csv', '2-ada.csv']);
  });

  it('carries many uploads over one connection, and opens another after the configuration changed', async () => {
    await Promise.all(Array.from({ length: 5 }, (_, n) => send({ path: `x/${n}` })));
    expect(peer.connections()).toBe(1);
    expect(await send({ password: 'old' })).toMatchObject({ category: 'AUTHENTICATION' });
    expect(peer.connections()).toBe(2);
  });

  it.each([undefined, 'a pass phrase'])('logs in with a key (passphrase: %s)', async (passphrase) => {
    const key = sshKeys(passphrase === undefined ? {} : { passphrase });
    const byKey = await startSftpServer({ username: 'waybill', publicKey: key.public });
    const { password: _, ...config } = configOf(byKey, { privateKey: key.private, ...(passphrase && { passphrase }) });
    expect(adapter.validate(config)).toEqual([]);
    expect(await adapter.send(messageOf(config, content), options())).toMatchObject({ kind: 'accepted' });
    const wrong = await adapter.send(messageOf({ ...config, privateKey: sshKeys().private }, content), options());
    expect(wrong).toMatchObject({ category: 'AUTHENTICATION' });
    await byKey.close();
  });

  it('takes a key it cannot open for a problem of the configuration', async () => {
    const key = sshKeys({ passphrase: 'right' });
    const { password: _, ...config } = configOf(peer, { privateKey: key.private, passphrase: 'wrong' });
    expect(await adapter.send(messageOf(config, content), options())).toMatchObject({
      category: 'CONFIGURATION',
      code: 'PRIVATE_KEY',
    });
  });

  it('tests the login and the host key', async () => {
    const wrong = await adapter.test(configOf(peer, { password: 'wrong' }), options());
    expect(wrong).toMatchObject({ ok: false, problems: [{ path: 'username' }] });
    const other = await adapter.test(configOf(peer, { hostKeyFingerprint: `SHA256:${'A'.repeat(43)}` }), options());
    expect(other).toMatchObject({ ok: false, problems: [{ path: 'hostKeyFingerprint' }] });
    expect(other.problems[0]?.problem).toContain(peer.fingerprint);
  });

  it.runIf(hasSshd)('is stored by OpenSSH, renamed atomically over what is there', async () => {
    const sshd = await startOpenSsh();
    try {
      const config = { ...sshd.config, path: `${sshd.folder}/in/{year}/{filename}`, fileMode: '640' };
      expect(await adapter.test(config, options())).toMatchObject({ ok: true });
      for (const round of ['one', 'two']) {
        const file = { filename: 'a.txt', contentType: 'text/plain', base64: Buffer.from(round).toString('base64') };
        const outcome = await adapter.send(messageOf(config, { attachments: [file] }), options());
        expect(outcome).toMatchObject({ kind: 'accepted', delivered: true });
      }
      expect(await sshd.stored()).toEqual([{ path: 'in/2026/a.txt', text: 'two', mode: 0o640 }]);
      const denied = await adapter.send(messageOf({ ...config, path: '/proc/waybill/x' }, content), options());
      expect(denied).toMatchObject({ kind: 'rejected' });
    } finally {
      adapter.close();
      await sshd.close();
    }
  });
});
