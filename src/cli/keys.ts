import type { Command } from 'commander';
import type { Pool } from 'pg';
import { openKeyRing } from '../app/key-ring.js';
import { type Environment, loadConfig } from '../platform/config.js';
import { visitDatabase } from '../platform/visit-database.js';
import { destroyedKeys, keysByVersion, type RotatableKeyRing, rotate } from '../security/key-rotation.js';
import { KeyTable } from '../security/key-table.js';
import { count, say } from './log-output.js';

interface KeysOptions {
  readonly json?: boolean;
}

/** `waybill keys …`: the keys that the keys of personal data are wrapped with. */
export function addKeysCommands(program: Command, env: Environment): void {
  const keys = program.command('keys').description('look at and rotate the keys that protect personal data');
  const command = (name: string, description: string, work: (pool: Pool, ring: RotatableKeyRing) => Promise<Answer>) =>
    keys
      .command(name)
      .description(description)
      .option('--json', 'print the result as JSON')
      .action((options: KeysOptions) => withKeys(env, options.json ?? false, work));
  command('list', 'the versions of the key ring, and how many keys each protects; Waybill may be running', list);
  command(
    'rotate',
    'make a new version of the key ring and wrap all keys with it, no event is touched; Waybill may be running',
    rotateAll,
  );
}

interface Answer {
  readonly json: object;
  readonly text: readonly string[];
}

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
