/** `npm run bench:files`: what large files cost in memory on their way out. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startOpenSsh } from '../../test/support/peers/openssh.js';
import { startS3 } from '../../test/support/peers/s3.js';
import { removeDataDir, startWaybill } from '../../test/support/waybill-process.js';
import { rounded } from '../clock.js';
import { startReceiver } from '../receiver.js';
import { command, type Figure, say } from './command.js';
import { MemoryWatch } from './memory.js';

const PATIENCE_MS = 300_000;
/** After a start, until what it takes is garbage. */
const SETTLE_MS = 5_000;
const CREATE = 'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }';
const REQUEST = 'mutation ($input: RequestDeliveryInput!) { requestDelivery(input: $input) { delivery { id } } }';
const APPROVE = 'mutation ($id: ID!) { approveDelivery(id: $id) { id } }';
const STATES =
  'query ($filter: DeliveryFilter!) { deliveries(first: 200, filter: $filter) { edges { node { status } } } }';

await command({
  name: 'files',
  about: `Requests deliveries with one large attachment each that wait for an approval, starts Waybill anew, lets all of them go at
once, and looks at the memory of the server meanwhile: to a local folder, to an SFTP server, to S3 and to an SMTP server.`,
  options: {
    deliveries: { default: 20, least: 1, most: 200, says: 'deliveries at once' },
    mib: { default: 10, least: 1, most: 512, says: 'MiB of each attachment' },
  },
  async run({ deliveries, mib }, cleanUp) {
    const dataDir = await cleanUp.opened(mkdtemp(join(tmpdir(), 'waybill-files-')), async (folder) => {
      await removeDataDir(folder);
      await rm(folder, { recursive: true, force: true });
    });
    const s3 = await cleanUp.opened(startS3(), (open) => open.close());
    const sftp = await cleanUp.opened(startOpenSsh(), (open) => open.close());
    const smtp = await cleanUp.opened(startReceiver('smtp-receiver-main.ts'), (open) => open.close());
    const configFile = join(dataDir, 'bench.yaml');
    const bytes = mib * 1024 * 1024;
    await writeFile(
      configFile,
      JSON.stringify({
        engine: { largeConcurrency: deliveries },
        limits: { maxBodyBytes: 2 * bytes, maxAttachmentBytes: bytes },
      }),
    );
    const keys = { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' };
    const targets = {
      local: { type: 'STORAGE', config: { storage: { provider: 'local', path: '{deliveryId}/' } } },
      sftp: {
        type: 'SFTP',
        config: {
          sftp: {
            ...sftp.config,
            ...{ path: `${sftp.folder}/{deliveryId}/`, timeout: 120_000 },
          },
        },
      },
      s3: {
        type: 'STORAGE',
        config: {
          storage: {
            ...{ provider: 's3', path: '{deliveryId}/', timeout: 120_000 },
            config: { region: 'eu-central-1', bucket: s3.bucket, endpoint: s3.origin, ...keys },
          },
        },
      },
      smtp: {
        type: 'EMAIL',
        config: {
          email: {
            ...{ service: 'smtp', host: '127.0.0.1', port: smtp.port, requireTls: false, timeout: 120_000 },
            ...{ from: 'bench@example.com', recipients: ['receiver@example.com'] },
          },
        },
      },
    };

    const figures: Figure[] = [{ key: 'deliveries', title: `deliveries at once, ${mib} MiB each`, value: deliveries }];
    for (const [name, target] of Object.entries(targets)) {
      // An e-mail of more than 25 MiB is taken by nobody.
      const size = name === 'smtp' ? Math.min(bytes, 17 * 1024 * 1024) : bytes;
      const probe = join(dataDir, `${name}.memory`);
      const options = {
        dataDir,
        nodeOptions: ['--import', new URL('buffer-probe.mjs', import.meta.url).href],
        env: { WAYBILL_CONFIG: configFile, BUFFER_PROBE: probe },
      };
      let waybill = await startWaybill(options);
      const stop = await cleanUp.opened(
        Promise.resolve(() => waybill.stop()),
        (end) => end().then(() => undefined),
      );
      const organizationId = `bench-${name}`;
      const { createDestination } = await waybill.ask<{ createDestination: { id: string } }>(CREATE, {
        input: { organizationId, label: name, ...target },
      });
      const ids: string[] = [];
      const base64 = randomBytes(size).toString('base64');
      for (let n = 0; n < deliveries; n++) {
        const attachments = [{ filename: 'report.bin', contentType: 'application/octet-stream', base64 }];
        const input = {
          organizationId,
          to: [{ destinationId: createDestination.id }],
          content: { subject: 'Report', attachments },
          approval: { approvers: ['admin'] },
        };
        ids.push(
          (await waybill.ask<{ requestDelivery: { delivery: { id: string } } }>(REQUEST, { input })).requestDelivery
            .delivery.id,
        );
      }
      await stop();
      waybill = await startWaybill(options);
      await delay(SETTLE_MS);
      await rm(probe, { force: true });
      const before = read(probe, await seen(probe));
      const memory = new MemoryWatch(waybill.pid);
      const startedAt = performance.now();
      await Promise.all(ids.map((id) => waybill.ask(APPROVE, { id })));
      for (;;) {
        const { deliveries: found } = await waybill.ask<{ deliveries: { edges: { node: { status: string } }[] } }>(
          STATES,
          {
            filter: { organizationId, status: ['DELIVERED', 'SENT', 'FAILED'] },
          },
        );
        const failed = found.edges.filter(({ node }) => node.status === 'FAILED').length;
        if (failed > 0) throw new Error(`${failed} deliveries to ${name} failed`);
        if (found.edges.length === deliveries) break;
        if (performance.now() - startedAt > PATIENCE_MS) throw new Error(`${name} took too long: ${waybill.output()}`);
        await delay(200);
      }
      const seconds = (performance.now() - startedAt) / 1_000;
      memory.stop();
      const after = read(probe);
      say(`${name}: ${JSON.stringify({ before, after, seconds })}`);
      await waybill.stop();
      figures.push(
        { key: `${name}.ownMiB`, title: `${name}: heap and buffers at most, MiB`, value: Math.round(after.own) },
        { key: `${name}.buffersMiB`, title: '… buffers alone', value: Math.round(after.buffers) },
        { key: `${name}.beforeMiB`, title: '… heap and buffers before', value: Math.round(before.own) },
        { key: `${name}.rssMiB`, title: '… resident at most, PostgreSQL apart', value: memory.peak('ownMib') },
        { key: `${name}.seconds`, title: '… seconds', value: rounded(seconds, 2) },
      );
    }
    return figures;
  },
});

async function seen(file: string): Promise<string> {
  for (;;) {
    await delay(20);
    try {
      return readFileSync(file, 'utf8');
    } catch {
      // not written yet
    }
  }
}

function read(file: string, text = readFileSync(file, 'utf8')): { readonly own: number; readonly buffers: number } {
  return JSON.parse(text);
}
