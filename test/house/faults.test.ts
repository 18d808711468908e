import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { REPOSITORY } from '../support/waybill-process.js';

it('docs/faults.md names tests that are there, and all that put processes at fault', () => {
  const text = readFileSync(join(REPOSITORY, 'docs/faults.md'), 'utf8');
  const named = [...new Set(text.match(/test\/[\w/.-]+\.ts/g))];
  expect(named.filter((path) => !existsSync(join(REPOSITORY, path)))).toEqual([]);
  const faults = readdirSync(join(REPOSITORY, 'test/fault')).map((name) => `test/fault/${name}`);
  expect(faults.filter((path) => !named.includes(path))).toEqual([]);
});
