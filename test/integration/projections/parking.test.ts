import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { projections } from '../../../src/projections/registry.js';
import { NotParked } from '../../../src/projections/runner/parking.js';
import type { ProjectionRunner } from '../../../src/projections/runner/projection-runner.js';
import { at, newDelivery, requested, sent, World } from './world.js';

// All in real databases, which a busy machine makes slow.
vi.setConfig({ testTimeout: 120_000 });

let world: World;

beforeEach(async () => {
  world = await World.create();
});
afterEach(() => world.close());

const of = (runner: ProjectionRunner, name: string) => runner.progress().find((one) => one.name === name);
const nothingParked = (runner: ProjectionRunner) => runner.progress().every(({ parked }) => parked === 0);

const skipped = (revision: number) => ({
  type: 'EventSkipped' as const,
  at: at(9),
  data: { revision, eventType: 'FromTheFuture', error: 'unknown event type', by: 'ada', reason: 'a test' },
});

/** All read models are what a rebuild of each makes. */
async function expectSameAfterRebuild(runner: ProjectionRunner): Promise<void> {
  for (const { name } of projections) {
    const { id } = await runner.rebuild(name, { kind: 'verify' });
    await world.until(() => of(runner, name)?.rebuild?.id === id && of(runner, name)?.rebuild?.state === 'done');
    expect(of(runner, name)?.rebuild).toMatchObject({ name, comparison: 'equal' });
  }
}

describe('a stream with an event that nobody understands', () => {
  it('is shown again, in all read models, once an operator has passed over the event', async () => {
    const { id, stream } = newDelivery();
    const runner = world.runner();
    runner.start();
    await world.record(stream, requested());
    await world.recordUnknown(stream);
    await world.record(stream, sent());
    await world.shown(runner);
    expect(runner.progress().map(({ parked }) => parked)).toEqual(
      projections.map(({ prefixes }) => (prefixes.includes('delivery-') ? 2 : 0)),
    );

    await world.record(stream, skipped(1));
    await world.until(() => nothingParked(runner));
    await world.record(newDelivery().stream, requested());
    await world.shown(runner);
    expect(await world.rows('select status from deliveries where id = $1', [id])).toEqual([{ status: 'DELIVERED' }]);
    await expectSameAfterRebuild(runner);
  });
});

describe('events whose rows Postgres refuses', () => {
  const refuse = () =>
    world.rows(`alter table attempts add constraint picky check (provider_message_id <> 'message-13')`);

  it('are applied when they are tried again after the fix, as if nothing had been', async () => {
    const runner = world.runner();
    runner.start();
    await refuse();
    const { stream } = newDelivery();
    await world.record(stream, requested(), sent(13));
    await world.shown(runner);
    expect(await runner.retryParked('attempts')).toBe(1);
    const tries = async () => (await world.rows('select attempts from parked_events'))[0]?.attempts;
    await expect.poll(tries, { timeout: 60_000 }).toBe(2);
    await world.rows('alter table attempts drop constraint picky');
    expect(await runner.retryParked('attempts')).toBe(1);
    await world.until(() => nothingParked(runner));
    await expectSameAfterRebuild(runner);
  });

  it('can be passed over, which a rebuild remembers', async () => {
    const runner = world.runner();
    runner.start();
    await refuse();
    const { stream } = newDelivery();
    await world.record(stream, requested(), sent(13));
    await world.record(stream, sent(14));
    await world.shown(runner);
    const [parked] = await world.rows('select min(position)::text as position from parked_events');
    const skip = { position: BigInt(parked?.position as string), by: 'ada', reason: 'a test' };
    await expect(runner.skipParked('deliveries', skip)).rejects.toBeInstanceOf(NotParked);
    await runner.skipParked('attempts', skip);
    await world.until(() => nothingParked(runner));
    await world.record(stream, sent(15));
    await world.shown(runner);
    const numbers = () => world.rows('select number from attempts order by number');
    expect(await numbers()).toEqual([{ number: 14 }, { number: 15 }]);
    const { id } = await runner.rebuild('attempts');
    await world.until(
      () => of(runner, 'attempts')?.rebuild?.id === id && of(runner, 'attempts')?.rebuild?.state === 'done',
    );
    expect(of(runner, 'attempts')?.rebuild?.comparison).toBe('equal');
    expect(await numbers()).toEqual([{ number: 14 }, { number: 15 }]);
    expect(
      await world.rows('select skipped_by, skip_reason from parked_events where projection = $1', ['attempts']),
    ).toEqual([{ skipped_by: 'ada', skip_reason: 'a test' }]);
  });
});

/** A program that ends when it has caught up, or of what it handles. */
async function ended(): Promise<{ readonly code: number | null; readonly signal: string | null }> {
  const settings = JSON.stringify({ logPath: world.logPath, url: world.server.url });
  const child = fork(fileURLToPath(new URL('deadly-main.ts', import.meta.url)), [settings], {
    execArgv: ['--import', new URL('../../../scripts/ts-loader.mjs', import.meta.url).href],
  });
  const [code, signal] = await once(child, 'exit');
  return { code, signal };
}

describe('an event that takes the program with it', () => {
  // Seven programs, one after the other, which a busy machine takes its time to start.
  it('is counted before it is handled, and parked when that has happened too often', { timeout: 400_000 }, async () => {
    const [poisoned, healthy] = [newDelivery(), newDelivery()];
    await world.record(healthy.stream, requested());
    await world.record(poisoned.stream, requested({ tags: ['deadly'] }));
    await world.record(healthy.stream, sent());
    let deaths = 0;
    while ((await ended()).signal === 'SIGKILL') deaths++;
    // Three that handled a batch, and three that handled the event alone.
    expect(deaths).toBe(6);
    expect(await world.rows('select id, status from deliveries')).toEqual([{ id: healthy.id, status: 'DELIVERED' }]);
    expect(await world.rows('select error from parked_events')).toEqual([
      { error: 'the program has died 3 times while it handled this event' },
    ]);
  });
});
