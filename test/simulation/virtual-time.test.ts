import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { Random } from './random.js';
import { Host, Scheduler } from './scheduler.js';
import { EPOCH_MS, inVirtualTime } from './virtual-globals.js';

/** Runs `work` as a host's first step, and everything that follows from it. */
async function virtually(work: (seen: (what: string) => void, scheduler: Scheduler, host: Host) => void) {
  const scheduler = new Scheduler();
  const host = new Host('A', -5_000);
  const seen: string[] = [];
  await inVirtualTime(scheduler, new Random(1, 'test'), async () => {
    scheduler.after(0, host, () => work((what) => seen.push(`${scheduler.nowMs} ${what}`), scheduler, host));
    await scheduler.run(() => false);
  });
  return seen;
}

it('an hour passes at once, timer by timer, and promises settle in between', async () => {
  const seen = await virtually((see) => {
    setTimeout(() => see('after an hour'), 3_600_000);
    const cleared = setTimeout(() => see('never'), 10);
    let ticks = 0;
    const interval = setInterval(() => {
      see('tick');
      if (++ticks === 2) clearInterval(interval);
    }, 20);
    setTimeout(() => {
      clearTimeout(cleared);
      void Promise.resolve().then(() => see('then'));
    }, 5);
    void delay(30).then(() => see('delay'));
  });
  expect(seen).toEqual(['5 then', '20 tick', '30 delay', '40 tick', '3600000 after an hour']);
});

it('each host has its own clocks', async () => {
  const seen = await virtually((see, _, host) => {
    host.wallAheadMs = 600_000;
    setTimeout(() => {
      see(`wall ${Date.now() - EPOCH_MS}, ${Date.parse(new Date().toISOString()) - EPOCH_MS}`);
      see(`monotonic ${performance.now()}`);
    }, 100);
  });
  expect(seen).toEqual(['100 wall 600100, 600100', '100 monotonic 5100']);
});

it('what a stopped host was to do comes all at once; what a dead one was to do, never', async () => {
  const seen = await virtually((see, scheduler, host) => {
    setTimeout(() => see('timer'), 10);
    scheduler.after(20, host, () => see('answer'));
    scheduler.after(5, undefined, () => scheduler.stop(host));
    scheduler.after(50, undefined, () => scheduler.goOn(host, false));
    setTimeout(() => see('too late'), 100);
    scheduler.after(60, undefined, () => {
      host.isAlive = false;
    });
  });
  expect(seen).toEqual(['50 answer', '50 timer']);
});

it('chance is the seed’s, and everything is real again afterwards', async () => {
  const [once, again] = [await virtually(draw), await virtually(draw)];
  expect(again).toEqual(once);
  expect(randomUUID()).not.toBe(once[0]);
  expect(Math.abs(Date.now() - EPOCH_MS)).toBeGreaterThan(1_000);
});

function draw(see: (what: string) => void): void {
  see(randomUUID());
  see(String(Math.random()));
}
