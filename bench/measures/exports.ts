/** `npm run bench:exports`: what long lists cost in memory while they are downloaded. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import pg from 'pg';
import { request } from 'undici';
import { testDatabase } from '../../test/support/postgres.js';
import { startWaybill, type WaybillProcess } from '../../test/support/waybill-process.js';
import { rounded } from '../clock.js';
import { startReceiver } from '../receiver.js';
import { prepareLoad } from '../workload.js';
import { command, type Figure, say } from './command.js';
import { MemoryWatch } from './memory.js';
import { fillReadModels } from './query-data.js';
import { requestMany } from './schedule.js';

/** After a start, until what it takes is garbage. */
const SETTLE_MS = 5_000;
/** So long the slow client takes nothing, as soon as it has the beginning. */
const STALL_MS = 15_000;

/** The organization whose deliveries are in the log as well. */
const RECORDED = 'bench-exports';
const DAY_MS = 86_400_000;

interface Download {
  readonly path: string;
  readonly isPacked?: boolean;
  readonly isSlow?: boolean;
}

const DOWNLOADS: Readonly<Record<string, Download>> = {
  deliveries: { path: 'deliveries.jsonl' },
  'deliveries as CSV, packed, the oldest first': { path: 'deliveries.csv?order=OLDEST_FIRST', isPacked: true },
  legs: { path: 'legs.csv' },
  attempts: { path: 'attempts.csv' },
  'compliance report': { path: `compliance.csv?organizationId=${RECORDED}` },
  'audit trail': { path: `audit.jsonl?organizationId=${RECORDED}` },
  'deliveries, to a client that stalls': { path: 'deliveries.jsonl', isSlow: true },
};

await command({
  name: 'exports',
  about: `Fills the read models with deliveries by SQL, downloads lists of them one after the other, and looks once a second at what of the
memory of the server's main thread is not garbage. What is made of the log itself is of deliveries that were requested. One client reads nothing for ${STALL_MS / 1_000} s, and must not be waited for in memory.`,
  options: {
    deliveries: { default: 200_000, least: 1_000, most: 10_000_000, says: 'rows of a list' },
    recorded: { default: 20_000, least: 1_000, most: 1_000_000, says: 'deliveries that are requested' },
  },
  async run({ deliveries, recorded }, cleanUp) {
    const folder = await cleanUp.opened(mkdtemp(join(tmpdir(), 'waybill-exports-')), (made) =>
      rm(made, { recursive: true, force: true }),
    );
    const probe = join(folder, 'memory');
    const database = await cleanUp.opened(testDatabase(), (open) => open.close());
    const options = {
      nodeOptions: ['--expose-gc', '--import', new URL('live-probe.mjs', import.meta.url).href],
      env: { DATABASE_URL: database.url, LIVE_PROBE: probe },
    };
    const waybill = await cleanUp.opened(startWaybill(options), (open) => open.stop());
    const sql = new pg.Client(database.url);
    await sql.connect();
    say(`filling ${deliveries} deliveries`);
    await fillReadModels(sql, deliveries).finally(() => sql.end());
    const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
    say(`requesting ${recorded} deliveries`);
    const scheduledAt = new Date(Date.now() + DAY_MS).toISOString();
    await requestMany(await prepareLoad(waybill, receiver, RECORDED), recorded, () => ({ scheduledAt }));
    await delay(SETTLE_MS);
    const figures: Figure[] = [
      { key: 'rows', title: 'deliveries', value: deliveries },
      { key: 'recorded', title: 'deliveries that were requested', value: recorded },
    ];
    for (const [title, download] of Object.entries(DOWNLOADS)) {
      await rm(probe, { force: true });
      const before = await seen(probe, waybill);
      const memory = new MemoryWatch(waybill.pid);
      const startedAt = performance.now();
      const { rows, bytes } = await taken(`${waybill.url}/export/${download.path}`, waybill.adminKey, download);
      const seconds = (performance.now() - startedAt) / 1_000;
      memory.stop();
      const after = await seen(probe, waybill);
      figures.push(
        { key: `${title}.rows`, title: `${title}: lines`, value: rows },
        { key: `${title}.mib`, title: '… MiB sent', value: rounded(bytes / 1024 / 1024, 3) },
        {
          key: `${title}.beforeMiB`,
          title: '… heap and buffers without garbage, before, MiB',
          value: Math.round(before),
        },
        { key: `${title}.liveMiB`, title: '… at most', value: Math.round(after) },
        { key: `${title}.processMiB`, title: '… the whole process at most', value: Math.round(memory.peak('ownMib')) },
        { key: `${title}.seconds`, title: '… seconds', value: rounded(seconds, 3) },
      );
      say(`${title}: ${seconds} s`);
    }
    return figures;
  },
});

/** Reads to the end and keeps nothing. */
async function taken(
  url: string,
  key: string,
  { isPacked, isSlow }: Download,
): Promise<{ rows: number; bytes: number }> {
  const headers = { authorization: `Bearer ${key}`, ...(isPacked && { 'accept-encoding': 'gzip' }) };
  const { statusCode, body } = await request(url, { headers, bodyTimeout: 0 });
  if (statusCode !== 200) throw new Error(`${url}: ${statusCode} ${await body.text()}`);
  let [rows, bytes] = [0, 0];
  async function* received() {
    for await (const chunk of body) {
      const isFirst = bytes === 0;
      bytes += (chunk as Buffer).length;
      if (isSlow && isFirst) await delay(STALL_MS);
      yield chunk as Buffer;
    }
  }
  const source = Readable.from(received());
  for await (const chunk of isPacked ? source.pipe(createGunzip()) : source)
    for (const byte of chunk as Buffer) if (byte === 0x0a) rows++;
  return { rows, bytes };
}

/** MiB, once the probe has looked. */
async function seen(file: string, { exited, output }: WaybillProcess): Promise<number> {
  for (;;) {
    const exit = await Promise.race([exited, delay(1_500)]);
    if (exit) throw new Error(`Waybill has ended: ${JSON.stringify(exit)} ${output().slice(-2_000)}`);
    const most = await readFile(file, 'utf8').catch(() => '');
    if (most !== '') return Number(most);
  }
}
