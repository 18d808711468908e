import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { CLUSTER, findPostgresHome } from '../../src/platform/postgres-account.js';
import { client } from '../e2e/journeys.js';
import { digests } from '../support/digests.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { postgresPid, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, "Postgres restarts": the embedded PostgreSQL is killed with -9 under a Waybill that runs. Deliveries are
 * accepted and sent meanwhile, since the log is the truth; what only Postgres knows is UNAVAILABLE for as long; and
 * Waybill starts it again without help.
 */
let waybill: WaybillProcess | undefined;

afterAll(async () => {
  await waybill?.stop();
});

const POLL = { timeout: 60_000, interval: 5 };

test('kill -9 of the embedded PostgreSQL, again and again', { timeout: 240_000 }, async () => {
  const receiver = await startWebhookReceiver();
  waybill = await startWaybill({ env: { WAYBILL_LOG_LEVEL: 'info' } });
  const { dataDir, url, output } = waybill;
  const running = waybill;
  const api = client(running);
  const accepted: string[] = [];
  const accept = async (count: number) => {
    const to = [{ channel: 'WEBHOOK', address: receiver.url }];
    for (let n = 0; n < count; n++) accepted.push((await api.request({ to })).id);
  };
  const arrived = () => new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size;
  const readiness = async () => {
    const response = await fetch(`${url}/ready`);
    const { parts } = (await response.json()) as { parts: Record<string, string> };
    return { code: response.status, parts };
  };
  const kill = async () => {
    await expect.poll(() => postgresPid(dataDir), POLL).toBeDefined();
    const pid = (await postgresPid(dataDir)) as number;
    process.kill(pid, 'SIGKILL');
    return pid;
  };
  /** Until the one that runs is another one. */
  const successorOf = async (killed: number) => {
    const newest = async () => (await postgresPid(dataDir)) ?? killed;
    await expect.poll(newest, POLL).not.toBe(killed);
  };

  await accept(5);
  await expect.poll(readiness, POLL).toMatchObject({ code: 200 });

  // An outage that lasts until the test has seen everything: nothing can start with this setting.
  const letStart = await keepFromStarting(dataDir);
  const first = await kill();
  await expect
    .poll(readiness, POLL)
    .toMatchObject({ code: 503, parts: { postgres: expect.not.stringMatching(/^up$/) } });
  await accept(20);
  await expect.poll(arrived, POLL).toBe(25);
  const { errors } = await running.graphql('{ deliveries(first: 1) { totalCount } }');
  expect(errors).toMatchObject([{ extensions: { code: 'UNAVAILABLE' } }]);
  expect((await fetch(`${url}/health`)).status).toBe(200);
  await expect.poll(output, POLL).toContain('PostgreSQL does not start');
  await letStart();
  await successorOf(first);
  await expect.poll(readiness, POLL).toMatchObject({ code: 200 });
  for (const id of accepted) await api.until(id, 'DELIVERED');

  // Twice more, the second time as soon as the next one is there, which may be half-way through its start.
  const second = await kill();
  await accept(5);
  await successorOf(second);
  const third = await kill();
  await accept(5);
  await successorOf(third);
  await expect.poll(readiness, POLL).toMatchObject({ code: 200 });

  for (const id of accepted) {
    const { attempts } = await api.until(id, 'DELIVERED');
    expect(attempts).toMatchObject([{ number: 1, status: 'SUCCEEDED' }]);
  }
  expect(receiver.received).toHaveLength(accepted.length);
  const live = await digests(running);
  for (const name of Object.keys(live)) await running.ask(`mutation { rebuildProjection(name: "${name}") { id } }`);
  const rebuilds = async () => await running.ask('{ projections { state rebuild { state } } }');
  await expect
    .poll(rebuilds, POLL)
    .toEqual({ projections: Object.keys(live).map(() => ({ state: 'running', rebuild: { state: 'done' } })) });
  expect(await digests(running)).toEqual(live);

  // Stopping is no death.
  const deaths = () => output().split('PostgreSQL ended by itself').length - 1;
  const before = deaths();
  expect(await running.stop()).toEqual({ code: 0, signal: null });
  expect(deaths()).toBe(before);
  expect(await postgresPid(dataDir)).toBeUndefined();
  await receiver.close();
});

/** @returns takes the hindrance away */
async function keepFromStarting(dataDir: string): Promise<() => Promise<void>> {
  const instanceId = (await readFile(join(dataDir, 'instance.id'), 'utf8')).trim();
  const { directory } = await findPostgresHome(dataDir, instanceId);
  const settings = join(directory, CLUSTER, 'postgresql.auto.conf');
  const good = await readFile(settings, 'utf8');
  await appendFile(settings, 'no_such_setting = 1\n');
  return () => writeFile(settings, good);
}
