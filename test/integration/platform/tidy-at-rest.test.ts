import { fork } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';

const LOADER = new URL('../../../scripts/ts-loader.mjs', import.meta.url).href;
/** 200 MiB that nobody needs any more, and then nothing to do. */
const PROGRAM = `
  import { getHeapStatistics } from 'node:v8';
  import { tidyAtRest } from './src/platform/tidy-at-rest.ts';
  tidyAtRest();
  let kept = Array.from({ length: 2_000_000 }, (_, number) => ({ number, text: ['of', number] }));
  const heap = () => getHeapStatistics().total_heap_size;
  process.send({ full: heap() });
  kept = undefined;
  setInterval(() => process.send({ now: heap() }), 250);
`;

test('what a burst has left is given back when nothing comes after it', async () => {
  const child = fork('-', [], { execArgv: ['--import', LOADER, '--input-type=module', '--eval', PROGRAM] });
  const exited = once(child, 'exit');
  const seen = { full: 0, now: Number.POSITIVE_INFINITY };
  child.on('message', (message) => Object.assign(seen, message));
  try {
    await expect.poll(() => seen.full, { timeout: 30_000 }).toBeGreaterThan(200 * 2 ** 20);
    await expect.poll(() => seen.now, { timeout: 30_000 }).toBeLessThan(seen.full / 3);
  } finally {
    child.kill();
    await exited;
  }
});
