import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startS3 } from '../support/peers/s3.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client } from './journeys.js';

/** Files behind links, fetched as browsers and programs do. */
let waybill: WaybillProcess;
let api: ReturnType<typeof client>;
const REPORT = randomBytes(200_000);

beforeAll(async () => {
  waybill = await startWaybill();
  api = client(waybill);
}, 120_000);
afterAll(() => waybill?.stop());

interface Download {
  readonly condition: string;
  readonly uses: number;
  readonly files: readonly { readonly name: string; readonly bytes: number; readonly url: string }[];
  readonly accesses: readonly {
    readonly outcome: string;
    readonly isCounted: boolean;
    readonly address: string | null;
  }[];
}

async function downloadOf(deliveryId: string): Promise<Download> {
  const { downloads } = await waybill.ask<{ downloads: Download[] }>(
    `query ($id: ID!) { downloads(deliveryId: $id) { condition uses files { name bytes url } accesses { outcome isCounted address } } }`,
    { id: deliveryId },
  );
  return downloads[0] as Download;
}

async function offered(config: object, content: object = { attachments: [pdf] }, more = {}) {
  const { id: destinationId } = await api.destination('DOWNLOAD', { download: config });
  const { id } = await api.request({ to: [{ destinationId }], content, ...more });
  await api.until(id, 'DELIVERED');
  const { files } = await downloadOf(id);
  const get = (headers: Record<string, string> = {}, at = 0, method = 'GET') =>
    fetch(`${waybill.url}${files[at]?.url}`, { method, headers });
  return { id, files, get };
}
const pdf = { filename: 'Grüße "x".pdf', contentType: 'application/pdf', base64: REPORT.toString('base64') };
const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer());
const basic = (password: string) => ({ authorization: `Basic ${Buffer.from(`ada:${password}`).toString('base64')}` });

describe('a link', () => {
  it('gives the file, to be saved, and nothing of it runs', async () => {
    const { id, files, get } = await offered({});
    expect(files).toMatchObject([{ name: 'Grüße "x".pdf', bytes: REPORT.length }]);
    const head = await get({}, 0, 'HEAD');
    expect([head.status, head.headers.get('content-length'), (await bytesOf(head)).length]).toEqual([200, '200000', 0]);
    const response = await get();
    expect(response.status).toBe(200);
    expect((await bytesOf(response)).equals(REPORT)).toBe(true);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      ...{ 'content-type': 'application/pdf', 'content-length': '200000', 'accept-ranges': 'bytes' },
      'content-disposition': `attachment; filename="Gr__e _x_.pdf"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%22x%22.pdf`,
      ...{ 'x-content-type-options': 'nosniff', 'cache-control': 'no-store', 'referrer-policy': 'no-referrer' },
      'content-security-policy': expect.stringContaining('sandbox'),
    });
    const { uses, accesses } = await downloadOf(id);
    expect([uses, accesses]).toEqual([1, [{ outcome: 'SERVED', isCounted: true, address: '127.0.0.1' }]]);
  });

  it('gives parts: one that was interrupted goes on, and is one use', async () => {
    const { id, get } = await offered({ maxUses: 1 });
    const etag = (await get({}, 0, 'HEAD')).headers.get('etag') ?? '';
    const part = async (range: string, more = {}) => {
      const response = await get({ range, ...more });
      return [
        response.status,
        response.headers.get('content-range'),
        (await bytesOf(response)).toString('hex'),
      ] as const;
    };
    expect(await part('bytes=200000-')).toEqual([416, 'bytes */200000', '']);
    expect((await downloadOf(id)).uses).toBe(0);
    expect(await part('bytes=0-99999')).toEqual([206, 'bytes 0-99999/200000', REPORT.toString('hex', 0, 100_000)]);
    const rest = REPORT.toString('hex', 100_000);
    expect(await part('bytes=100000-', { 'if-range': etag })).toEqual([206, 'bytes 100000-199999/200000', rest]);
    expect(await part('bytes=-5')).toEqual([206, 'bytes 199995-199999/200000', REPORT.toString('hex', 199_995)]);
    expect((await part('bytes=0-99999'))[0]).toBe(410);
    expect((await part('bytes=100000-', { 'if-range': '"another"' }))[0]).toBe(410);
    const { uses, condition, accesses } = await downloadOf(id);
    expect([uses, condition, accesses.length]).toEqual([1, 'USED', 3]);
  });

  it('asks for its password, and is locked by ten wrong ones', async () => {
    const { id, get } = await offered({ password: 'correct horse' });
    const asked = await get();
    expect([asked.status, asked.headers.get('www-authenticate')]).toEqual([
      401,
      expect.stringMatching(/^Basic realm=/),
    ]);
    expect((await bytesOf(await get(basic('correct horse')))).equals(REPORT)).toBe(true);
    for (let guess = 0; guess < 10; guess++) expect((await get(basic(`guess ${guess}`))).status).toBe(401);
    expect((await get(basic('correct horse'))).status).toBe(403);
    const { condition, accesses } = await downloadOf(id);
    expect([condition, accesses.filter(({ outcome }) => outcome === 'REFUSED').length]).toEqual(['LOCKED', 10]);
    const { history } = await api.delivery(id);
    expect(JSON.stringify([history, waybill.output()])).not.toContain('correct horse');
  }, 60_000);

  it('shows what is only to be seen, as what it was said to be and nothing else', async () => {
    const page = { filename: 'x.txt', contentType: 'text/plain', base64: Buffer.from('<script>').toString('base64') };
    const { get } = await offered({ viewOnly: true }, { attachments: [page, pdf] });
    expect(Object.fromEntries((await get()).headers)).toMatchObject({
      ...{ 'content-type': 'text/plain; charset=utf-8', 'content-security-policy': expect.stringContaining('sandbox') },
      ...{ 'content-disposition': expect.stringMatching(/^inline/), 'cache-control': 'no-store' },
    });
    expect((await get({}, 1)).headers.get('content-security-policy')).toContain("default-src 'none'");
  });

  it('that was changed, or is none, leads nowhere', async () => {
    const { files } = await offered({}, { attachments: [pdf, { ...pdf, filename: 'b.pdf' }] });
    const url = new URL(waybill.url + files[0]?.url);
    const other = new URL(waybill.url + files[1]?.url);
    const changed = (change: (copy: URL) => void) => {
      const copy = new URL(url);
      change(copy);
      return copy.href;
    };
    const forged = [
      changed((copy) => copy.searchParams.set('expires', '4000000000')),
      changed((copy) => copy.searchParams.set('signature', other.searchParams.get('signature') ?? '')),
      changed((copy) => copy.searchParams.delete('signature')),
      changed((copy) => copy.searchParams.append('signature', 'x')),
      changed((copy) => {
        copy.pathname = other.pathname;
      }),
      changed((copy) => {
        copy.pathname = copy.pathname.replace(/\/0$/, '/..%2f..%2f0');
      }),
    ];
    for (const link of forged) expect((await fetch(link)).status, link).toBe(403);
    for (const path of ['/downloads', '/downloads/', '/downloads/../keys.json', '/downloads/%2e%2e/keys.json'])
      expect((await fetch(waybill.url + path)).status, path).toBe(404);
    expect((await fetch(url, { method: 'POST' })).status).toBe(404);
  });

  it('of somebody who is forgotten gives nothing more', async () => {
    // Its files go with the person the delivery is for: here, with whom else it is sent to.
    const { id: destinationId } = await api.destination('DOWNLOAD', { download: {} });
    const to = [{ destinationId, fallback: [{ channel: 'IN_APP', address: 'kim' }] }];
    const { id } = await api.request({ to, content: { text: 'between us' } });
    await api.until(id, 'DELIVERED');
    const link = waybill.url + (await downloadOf(id)).files[0]?.url;
    expect(await (await fetch(link)).text()).toBe('between us');
    const kim = 'organizationId: "hospital-001", recipient: { channel: IN_APP, address: "kim" }';
    const accesses = [{ outcome: 'SERVED', file: 0, isCounted: true, address: '127.0.0.1' }];
    const { subjectReport } = await waybill.ask<{ subjectReport: { subject: string } }>(
      `{ subjectReport(${kim}) { subject deliveries { edges { node { id downloadAccesses { outcome file isCounted address } } } } } }`,
    );
    expect(subjectReport).toMatchObject({ deliveries: { edges: [{ node: { id, downloadAccesses: accesses } }] } });
    const query = new URLSearchParams({ organizationId: 'hospital-001', subject: subjectReport.subject });
    const exported = await fetch(`${waybill.url}/export/subject-report.jsonl?${query}`, {
      headers: { authorization: `Bearer ${waybill.adminKey}` },
    });
    expect(JSON.parse((await exported.text()).split('\n')[0] as string)).toMatchObject({
      ...{ kind: 'delivery', id, downloadAccesses: accesses },
    });
    await waybill.ask(`mutation { eraseSubject(${kim}, reason: "asked for") { keysDestroyed } }`);
    expect((await fetch(link)).status).toBe(410);
    expect(await downloadOf(id)).toMatchObject({ condition: 'ERASED', files: [], accesses: [{ address: '[erased]' }] });
  });

  it('of a provider of storage is given to who may see it, sealed in the log, and gone with the person', async () => {
    const s3 = await startS3();
    const config = { region: 'us-east-1', bucket: s3.bucket, accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
    const own = { provider: 's3', config: { ...config, endpoint: s3.origin }, path: '/for/{deliveryId}/{filename}' };
    const { id: destinationId } = await api.destination('DOWNLOAD', { download: own });
    const to = [{ destinationId, fallback: [{ channel: 'IN_APP', address: 'lee' }] }];
    const { id } = await api.request({ to, content: { attachments: [pdf] } });
    const { attempts, history } = await api.until(id, 'DELIVERED');
    expect(attempts).toMatchObject([{ channel: 'DOWNLOAD', provider: 's3', status: 'SUCCEEDED' }]);
    const { files, condition } = await downloadOf(id);
    expect([condition, files]).toMatchObject(['OPEN', [{ name: pdf.filename, bytes: REPORT.length }]]);
    const link = files[0]?.url ?? '';
    expect(new URL(link).origin).toBe(s3.origin);
    expect((await bytesOf(await fetch(link))).equals(REPORT)).toBe(true);
    expect((await fetch(`${waybill.url}/downloads/${attempts[0]?.providerMessageId}/0`)).status).toBe(403);
    const refusal = await api.refusal(
      'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }',
      {
        input: {
          organizationId: 'hospital-001',
          label: 'x',
          type: 'DOWNLOAD',
          config: { download: { ...own, password: 'correct horse' } },
        },
      },
    );
    expect(refusal).toEqual([{ code: 'BAD_USER_INPUT', paths: ['config.download.password'] }]);
    const signature = new URL(link).searchParams.get('X-Amz-Signature') ?? 'none';
    expect(JSON.stringify([history, waybill.output()])).not.toContain(signature);
    await waybill.ask(
      'mutation { eraseSubject(organizationId: "hospital-001", recipient: { channel: IN_APP, address: "lee" }, reason: "asked for") { keysDestroyed } }',
    );
    expect(await downloadOf(id)).toMatchObject({ condition: 'ERASED', files: [] });
    await s3.close();
  }, 60_000);

  it('needs no destination: the address is how long it is good', async () => {
    const { id } = await api.request({ to: [{ channel: 'DOWNLOAD', address: '3600' }], content: { text: 'hello' } });
    await api.until(id, 'DELIVERED');
    expect(await (await fetch(waybill.url + (await downloadOf(id)).files[0]?.url)).text()).toBe('hello');
  });
});
