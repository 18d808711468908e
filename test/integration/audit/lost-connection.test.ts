import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { AuditWorld } from './world.js';

const POLL = { timeout: 30_000, interval: 50 };

let world: AuditWorld;

beforeEach(async () => {
  world = await AuditWorld.create();
});
afterEach(() => world.close());

it('goes on where it was each time its connection is lost, and reads the log once', { timeout: 120_000 }, async () => {
  const subscribe = vi.spyOn(world.log, 'subscribe');
  const signals = () => subscribe.mock.calls.map(([{ signal }]) => signal.aborted);
  const { audit, stop } = world.start();
  for (let losses = 0; losses < 3; losses++) {
    await world.record(10);
    expect((await audit.makeCheckpoint(30_000)).size).toBe(10 * (losses + 1));
    const ended = await world.sql.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'waybill-audit'`,
    );
    expect(ended.rowCount).toBe(1);
    await expect.poll(() => signals().length, POLL).toBe(losses + 2);
    expect(signals()).toEqual([...Array(losses + 1).fill(true), false]);
  }
  await audit.makeCheckpoint(30_000);
  expect(await audit.verify()).toMatchObject({ ok: true, entries: 30 });
  await stop();
  expect(signals()).not.toContain(false);
});
