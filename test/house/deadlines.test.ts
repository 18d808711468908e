import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const SOURCES = fileURLToPath(new URL('../../src', import.meta.url));
/** Node lets go of a timeout that is only among the sources of another signal, so that nothing is ever ended by it. */
const LOST = /AbortSignal\s*\.any\([^;]*AbortSignal\s*\.timeout/;

it('no deadline depends on a timeout that Node may collect as garbage', async () => {
  const files = (await readdir(SOURCES, { recursive: true })).filter((name) => name.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(300);
  const lost: string[] = [];
  for (const name of files) if (LOST.test(await readFile(`${SOURCES}/${name}`, 'utf8'))) lost.push(name);
  expect(lost, 'use withDeadline (channels/deadline.ts)').toEqual([]);
  expect(LOST.test('AbortSignal.any([signal, AbortSignal.timeout(5)])')).toBe(true);
});
