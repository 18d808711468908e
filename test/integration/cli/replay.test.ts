import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { EventCodec } from '../../../src/event-store/codec.js';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { EventStoreDb } from '../../../src/event-store/eventstoredb/event-store-db.js';
import { startEventStore } from '../../support/eventstoredb/start.js';
import { failed, newDelivery, requested, sent } from '../projections/world.js';

// Starts a program each time, which a busy machine makes slow.
vi.setConfig({ testTimeout: 60_000 });

const WAYBILL = fileURLToPath(new URL('../../../bin/waybill.mjs', import.meta.url));
const { stream } = newDelivery();
let dataDir: string;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'waybill-cli-replay-'));
  const log = EmbeddedLog.open(join(dataDir, 'log'));
  const codec = new EventCodec();
  const envelope = { organizationId: 'o', commandId: randomUUID(), actor: 'ada' };
  const events = [requested(), ...failed(1), sent(2)].map((event) => codec.encode(event, randomUUID(), envelope));
  await log.append(stream, 'no-stream', events);
  await log.close();
});
afterAll(() => rm(dataDir, { recursive: true }));

const replay = (...args: string[]) => replayWith({ WAYBILL_DATA: dataDir }, ...args);

const replayWith = (
  settings: Record<string, string>,
  ...args: string[]
): Promise<{ code: number; out: string; error: string }> =>
  new Promise((resolve) => {
    const env = { ...process.env, ...settings };
    execFile(process.execPath, [WAYBILL, 'replay', '--stream', stream, ...args], { env }, (failure, out, error) =>
      resolve({ code: failure ? Number(failure.code) : 0, out, error }),
    );
  });

it('prints each event and the state after it', async () => {
  const { code, out } = await replay();
  expect(code).toBe(0);
  expect(out).toContain('DeliveryRequested  (revision 0, position 1, by ada)');
  expect(out.match(/^ {2}= .*/gm)).toEqual([
    '  = QUEUED; leg 1 WEBHOOK QUEUED after 0 attempts',
    '  = PROCESSING; leg 1 WEBHOOK PROCESSING after 1 attempts',
    '  = PROCESSING; leg 1 WEBHOOK PROCESSING after 1 attempts',
    '  = DELIVERED; leg 1 WEBHOOK DELIVERED after 2 attempts',
  ]);
});

it('ends at the position it is asked for, as JSON lines', async () => {
  const { out } = await replay('--as-of', '3', '--json');
  const steps = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(steps.map(({ type, position, state }) => [type, position, state.status])).toEqual([
    ['DeliveryRequested', '1', 'QUEUED'],
    ['AttemptFailed', '2', 'PROCESSING'],
    ['RetryScheduled', '3', 'PROCESSING'],
  ]);
});

it('says in one line what cannot be', async () => {
  expect(await replay('--as-of', 'yesterday')).toMatchObject({
    code: 1,
    error: expect.stringContaining('--as-of: must be'),
  });
  const { code, error } = await replay('--as-of', '2000-01-01T00:00:00Z');
  expect([code, error.trim().split('\n').length]).toEqual([1, 1]);
});

it('reads an EventStoreDB as it reads its own log', async () => {
  const server = await startEventStore();
  try {
    const store = await EventStoreDb.connect(server.url);
    const embedded = EmbeddedLogReader.open(join(dataDir, 'log'));
    const events = (await embedded.readStream(stream)).map(({ id, type, data, metadata }) => ({
      id,
      type,
      data,
      metadata,
    }));
    await store.append(stream, 'no-stream', events);
    const [, second] = await store.readStream(stream);
    await Promise.all([embedded.close(), store.close()]);

    const settings = { EVENTSTORE_URL: server.url, WAYBILL_DATA: await mkdtemp(join(dataDir, 'none-')) };
    const states = (out: string) => out.match(/^ {2}= .*/gm);
    expect(states((await replayWith(settings)).out)).toEqual(states((await replay()).out));
    const { out } = await replayWith(settings, '--as-of', String(second?.position), '--json');
    expect(
      out
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).type),
    ).toEqual(['DeliveryRequested', 'AttemptFailed']);
    // A folder that is named is meant.
    expect((await replayWith(settings, '--data', dataDir, '--as-of', '1')).code).toBe(0);
  } finally {
    await server.stop();
  }
});
