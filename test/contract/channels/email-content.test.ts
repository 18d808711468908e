import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PDFDocument } from '@cantoo/pdf-lib';
import { BlobReader, TextWriter, ZipReader } from '@zip.js/zip.js';
import { dkimVerify } from 'mailauth/lib/dkim/verify.js';
import { generateKey } from 'openpgp';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SmtpAdapter } from '../../../src/channels/adapters/smtp.js';
import { emailContentProblems } from '../../../src/channels/email/compose.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { type SmtpPeer, startSmtpPeer } from '../../support/peers/smtp.js';
import { LOOPBACK, messageOf, options } from './conformance.js';

const report = { filename: 'report.txt', contentType: 'text/plain', base64: Buffer.from('figures').toString('base64') };

describe('an e-mail', () => {
  let peer: SmtpPeer;
  let egress: Egress;
  let adapter: SmtpAdapter;

  beforeEach(async () => {
    peer = await startSmtpPeer();
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
    recipients: ['ada@example.com'],
    ...change,
  });
  const send = (change: JsonObject = {}, content: Content = { text: 'x' }, more = {}) =>
    adapter.send(messageOf(configOf(change), content, more), options());
  const received = async (...parts: Parameters<typeof send>) => {
    expect(adapter.validate(configOf(parts[0]))).toEqual([]);
    expect(await send(...parts)).toMatchObject({ kind: 'accepted' });
    return peer.received.at(-1) as SmtpPeer['received'][number];
  };

  it('has a text made from its HTML when it has no other', async () => {
    const html = '<h1>Figures</h1><p>See <a href="https://example.com/q1">the page</a></p><img src="cid:logo">';
    const { mail } = await received({}, { html });
    expect(mail.text?.toLowerCase()).toContain('figures');
    expect(mail.text).toContain('the page [https://example.com/q1]');
    expect(mail.text).not.toContain('cid:');
    expect((await received({}, { html, text: 'mine' })).mail.text?.trim()).toBe('mine');
  });

  it('escapes the values in a template for HTML, not in one for text', async () => {
    const { mail } = await received(
      { htmlTemplate: '<p>{{name}}</p>', bodyTemplate: '{{name}}' },
      { data: { name: 'A & <b>B</b>' } },
    );
    expect(mail.html).toContain('<p>A &amp; &lt;b&gt;B&lt;/b&gt;</p>');
    expect(mail.text?.trim()).toBe('A & <b>B</b>');
  });

  it('shows inline images', async () => {
    const logo = { filename: 'logo.png', contentType: 'image/png', base64: 'iVBORw0KGgo=', contentId: 'logo@waybill' };
    const { raw, mail } = await received({}, { html: '<img src="cid:logo@waybill">', attachments: [logo, report] });
    expect(raw).toContain('multipart/related');
    expect(raw).toContain('Content-ID: <logo@waybill>');
    expect(mail.attachments.map(({ filename, related }) => [filename, Boolean(related)])).toEqual([
      ['logo.png', true],
      ['report.txt', false],
    ]);
  });

  it('goes to copies too, each address once, and names no blind one', async () => {
    const { to, mail, raw } = await received(
      { cc: ['grace@example.com'], bcc: ['archive@sender.example'], replyTo: 'desk@sender.example' },
      { text: 'x', email: { cc: ['Grace@example.com', 'edsger@example.com'], replyTo: 'me@sender.example' } },
    );
    expect(to).toEqual(['ada@example.com', 'grace@example.com', 'edsger@example.com', 'archive@sender.example']);
    expect(mail.replyTo?.value).toEqual([{ address: 'me@sender.example', name: '' }]);
    expect(raw).not.toContain('archive@');
  });

  it('has header fields of its own, those of the request winning', async () => {
    const { mail, raw } = await received(
      { headers: { 'X-Ledger': 'a', 'X-Kept': 'yes' } },
      { text: 'x', email: { headers: { 'x-ledger': 'b' } } },
      { priority: 'URGENT' },
    );
    expect(mail.headers.get('x-ledger')).toBe('b');
    expect(mail.headers.get('x-kept')).toBe('yes');
    expect(raw).toContain('Importance: high\r\nX-Priority: 1');
  });

  it.each([
    [{ headers: { Bcc: 'eve@example.com' } }, 'headers.Bcc'],
    [{ headers: { 'X-A': 'a\r\nBcc: eve@example.com' } }, 'headers.X-A'],
    [{ headers: { 'X A': 'a' } }, 'headers.X A'],
    [{ headers: { 'content-type': 'text/html' } }, 'headers.content-type'],
    [{ unsubscribe: { url: 'http://example.com/u' } }, 'unsubscribe.url'],
    [{ unsubscribe: {} }, 'unsubscribe'],
    [{ cc: ['nobody'] }, 'cc.0'],
    [{ replyTo: 'a@b\r\n' }, 'replyTo'],
    [{ dkim: { domain: 'sender.example', selector: 's1', privateKey: 'none' } }, 'dkim.privateKey'],
    [{ attachmentEncryption: { method: 'pgp', publicKey: 'x' } }, 'attachmentEncryption.publicKey'],
    [{ attachmentEncryption: { method: 'zip', password: 'short' } }, 'attachmentEncryption.password'],
  ])('is not configured with %j', (change, path) => {
    expect(adapter.validate(configOf(change as JsonObject)).map((problem) => problem.path)).toContain(path);
  });

  it.each<[Content, string]>([
    [{ email: { cc: ['nobody'] } }, 'email.cc.0'],
    [{ email: { replyTo: 'x' } }, 'email.replyTo'],
    [{ email: { headers: { 'X-A': 'a\nb' } } }, 'email.headers.X-A'],
    [{ email: { headers: { 'X-A': 1 as never } } }, 'email.headers.X-A'],
    [{ email: { headers: 'X-A: b' as never } }, 'email.headers'],
    [{ attachments: [{ ...report, contentId: 'a>b' }] }, 'attachments.0.contentId'],
  ])('is not requested with %j', (content, path) => {
    expect(emailContentProblems(content).map((problem) => problem.path)).toEqual([path]);
  });

  it('can be ended with one click', async () => {
    const unsubscribe = { url: 'https://example.com/u/{{deliveryId}}', mailto: 'stop@sender.example' };
    const { mail, raw } = await received({ unsubscribe });
    expect(raw).toContain('List-Unsubscribe: <https://example.com/u/delivery-1>');
    expect(raw).toContain('List-Unsubscribe-Post: List-Unsubscribe=One-Click');
    expect(mail.headers.get('list')).toMatchObject({ unsubscribe: { mail: 'stop@sender.example' } });
    const url = 'https://example.com/{{name}}';
    const outcome = await send({ unsubscribe: { url } }, { text: 'x', data: { name: 'a>, <b' } });
    expect(outcome).toMatchObject({ category: 'VALIDATION', code: 'TEMPLATE_ERROR' });
  });

  it('is signed so that a stranger can verify it, the fields for unsubscribing included', async () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'der' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    });
    const { raw } = await received(
      {
        dkim: { domain: 'sender.example', selector: 's1', privateKey },
        unsubscribe: { url: 'https://example.com/u' },
      },
      { text: 'Grüße', html: '<p>Grüße</p>', attachments: [report] },
    );
    const resolver = async (name: string) => {
      expect(name).toBe('s1._domainkey.sender.example');
      return [[`v=DKIM1; k=rsa; p=${publicKey.toString('base64')}`]];
    };
    const judge = (text: string) => dkimVerify(Buffer.from(text), { resolver } as never);
    const [result] = (await judge(raw)).results;
    expect(result?.status).toMatchObject({ result: 'pass', aligned: 'sender.example' });
    expect((result as { signingHeaders?: { keys: string } }).signingHeaders?.keys.toLowerCase()).toContain(
      'list-unsubscribe-post',
    );
    const [forged] = (await judge(raw.replace('One-Click', 'Two-Click'))).results;
    expect(forged?.status.result).toBe('fail');
  });

  it('is refused before it is sent when it is larger than the provider takes', async () => {
    const base64 = Buffer.alloc(20 * 1_024 * 1_024).toString('base64');
    expect(await send({}, { attachments: [{ ...report, base64 }] })).toMatchObject({
      category: 'VALIDATION',
      code: 'TOO_LARGE',
    });
    expect(peer.received).toHaveLength(0);
  });

  describe('with encrypted attachments', () => {
    let folder: string;
    const password = 'a pass phrase for Ada';
    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'waybill-crypt-'));
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    const attachmentOf = async (attachmentEncryption: JsonObject, files: Content['attachments'] = [report]) => {
      const { mail, raw } = await received({ attachmentEncryption }, { text: 'attached', attachments: files });
      expect(raw).not.toContain(report.base64);
      expect(mail.attachments).toHaveLength(1);
      return mail.attachments[0] as (typeof mail.attachments)[number];
    };
    /** Undefined when the machine does not have the tool. */
    const tool = (name: string, ...args: string[]): string | undefined => {
      try {
        return execFileSync(name, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw error;
      }
    };

    it('PGP: the owner of the key opens it with GnuPG', async () => {
      const keys = await generateKey({ userIDs: [{ name: 'Ada' }], format: 'armored' });
      const file = await attachmentOf({ method: 'pgp', publicKey: keys.publicKey });
      expect(file.filename).toBe('report.txt.pgp');
      const { readMessage, decrypt, readPrivateKey } = await import('openpgp');
      const message = await readMessage({ binaryMessage: file.content });
      const decryptionKeys = await readPrivateKey({ armoredKey: keys.privateKey });
      expect((await decrypt({ message, decryptionKeys })).data).toBe('figures');
      writeFileSync(join(folder, 'key.asc'), keys.privateKey);
      writeFileSync(join(folder, file.filename ?? ''), file.content);
      const gpg = (...args: string[]) => tool('gpg', '--homedir', folder, '--batch', '--quiet', ...args);
      gpg('--import', join(folder, 'key.asc'));
      const opened = gpg('--decrypt', join(folder, file.filename ?? ''));
      expect(opened ?? 'figures').toBe('figures');
      tool('gpgconf', '--homedir', folder, '--kill', 'all');
    });

    it('ZIP: AES-256, opened with the password and no other', async () => {
      const file = await attachmentOf({ method: 'zip', password }, [report, { ...report }]);
      expect(file.filename).toBe('attachments.zip');
      const read = async (given: string) => {
        const zip = new ZipReader(new BlobReader(new Blob([new Uint8Array(file.content)])), { password: given });
        const entries = await zip.getEntries();
        const texts = await Promise.all(
          entries.map((entry) => (entry.directory ? '' : entry.getData(new TextWriter(), { useWebWorkers: false }))),
        );
        return entries.map(({ filename }, index) => [filename, texts[index]]);
      };
      expect(await read(password)).toEqual([
        ['report.txt', 'figures'],
        ['2-report.txt', 'figures'],
      ]);
      await expect(read('another phrase')).rejects.toThrow();
      // WinZip's extra field: id 0x9901, size 7, AE-2, "AE", strength 3 = 256 bits.
      expect(file.content.includes(Buffer.from('0199070002004145 03'.replace(' ', ''), 'hex'))).toBe(true);
      writeFileSync(join(folder, 'a.zip'), file.content);
      const opened = tool('7z', 'x', '-so', `-p${password}`, join(folder, 'a.zip'), 'report.txt');
      expect(opened ?? 'figures').toBe('figures');
    });

    it('PDF: AES-256, opened with the password and no other; what is no PDF is refused', async () => {
      const document = await PDFDocument.create();
      document.setTitle('Quarterly figures');
      document.addPage().drawText('Quarterly figures');
      const pdf = Buffer.from(await document.save()).toString('base64');
      const file = await attachmentOf({ method: 'pdf', password }, [
        { filename: 'q1.pdf', contentType: 'application/pdf', base64: pdf },
      ]);
      const text = file.content.toString('latin1');
      expect(text).toContain('/AESV3');
      await expect(PDFDocument.load(file.content)).rejects.toThrow();
      await expect(PDFDocument.load(file.content, { password: 'another' })).rejects.toThrow();
      expect((await PDFDocument.load(file.content, { password })).getPageCount()).toBe(1);
      writeFileSync(join(folder, 'q1.pdf'), file.content);
      tool('qpdf', `--password=${password}`, '--check', join(folder, 'q1.pdf'));
      const outcome = await send({ attachmentEncryption: { method: 'pdf', password } }, { attachments: [report] });
      expect(outcome).toMatchObject({ category: 'VALIDATION', code: 'ENCRYPTION_FAILED' });
    });
  });
});
