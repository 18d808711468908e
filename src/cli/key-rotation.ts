import type { Pool } from 'pg';
import { openKeyRing } from '../app/key-ring.js';
import { type Environment, loadConfig } from '../platform/config.js';
import { visitDatabase } from '../platform/visit-database.js';
import { destroyedKeys, keysByVersion, type RotatableKeyRing, rotate } from '../security/key-rotation.js';
import { KeyTable } from '../security/key-table.js';
import { count, say } from './log-output.js';

interface Answer {
  readonly json: object;
  readonly text: readonly string[];
}

/** `waybill keys list`. */
export const listKeys = (env: Environment, json: boolean): Promise<void> => withKeys(env, json, list);

/** `waybill keys rotate`. */
export const rotateKeys = (env: Environment, json: boolean): Promise<void> => withKeys(env, json, rotateAll);

async function withKeys(
  env: Environment,
  json: boolean,
  work: (pool: Pool, ring: RotatableKeyRing) => Promise<Answer>,
): Promise<void> {
  const config = loadConfig(env, { cwd: process.cwd() });
  const answer = await visitDatabase(config, async (pool) => {
    const table = new KeyTable(pool);
    const { rows } = await pool.query<{ isMade: boolean }>(
      `select to_regclass('waybill_keys.installation') is not null as "isMade"`,
    );
    if (!rows[0]?.isMade || !(await table.installation()))
      throw new Error('there are no keys yet: Waybill makes them at its first start');
    return await work(pool, await openKeyRing(config, table, false));
  });
  if (json) return say(JSON.stringify(answer.json));
  for (const line of answer.text) say(line);
}

async function list(pool: Pool, ring: RotatableKeyRing): Promise<Answer> {
  const used = await keysByVersion(pool);
  const destroyed = await destroyedKeys(pool);
  const versions = ring
    .versions()
    .map(({ version, created }) => ({ version, created, keys: used.get(version) ?? 0 }))
    .sort((one, other) => one.version - other.version);
  const lines = versions.map(
    ({ version, created, keys }) => `version ${version}, made ${created}: ${count(keys, 'key')}`,
  );
  return { json: { versions, destroyed }, text: [...lines, `${count(destroyed, 'key')} destroyed`] };
}

async function rotateAll(pool: Pool, ring: RotatableKeyRing): Promise<Answer> {
  const done = await rotate(pool, ring);
  return {
    json: done,
    text: [
      `version ${done.version} protects ${count(done.rewrapped, 'key')}; put the new key ring where the copies of it are`,
    ],
  };
}
