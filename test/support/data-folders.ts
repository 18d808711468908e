import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { removeDataDir } from './waybill-process.js';

/** Makes empty folders; when the tests of the file are over they are removed, with a PostgreSQL that still runs in one. */
export function dataFolders(prefix: string): () => Promise<string> {
  const made: string[] = [];
  afterAll(async () => {
    for (const path of made) await removeDataDir(path);
  });
  return async () => {
    const path = await mkdtemp(join(tmpdir(), prefix));
    made.push(path);
    return path;
  };
}
