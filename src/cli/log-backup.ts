import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { backUp } from '../event-store/embedded-backup.js';
import type { Config } from '../platform/config.js';
import { visitDatabase } from '../platform/visit-database.js';
import { exportKeys } from '../security/key-backup.js';
import { count, say, size, withProgress } from './log-output.js';

/** The keys of a backup lie beside it. */
export const keysOf = (file: string): string => `${file}.keys`;

/**
 * The log, and then the keys that what is personal in it is sealed with, as they are in the database: wrapped. The key
 * ring that opens them is not backed up: log, keys and ring in one place would protect nothing.
 *
 * @throws Error, one line; there is no backup then
 */
export async function logBackup(config: Pick<Config, 'dataDir' | 'databaseUrl'>, file: string, json: boolean) {
  const manifest = await withProgress('backup', !json, (progress) =>
    backUp(join(config.dataDir, 'log'), file, progress),
  );
  // A folder that no Waybill was ever started on has a log at most.
  const hasDatabase = config.databaseUrl !== undefined || existsSync(join(config.dataDir, 'instance.id'));
  const keys = hasDatabase ? await visitDatabase(config, (pool) => exportKeys(pool, keysOf(file))) : 0;
  if (json) return say(JSON.stringify({ file, keys, ...manifest }));
  say(`${file}: the log up to position ${manifest.head}, ${size((await stat(file)).size)}`);
  if (keys > 0)
    say(`${keysOf(file)}: ${count(keys, 'key')}, wrapped; the key ring that opens them is not in the backup`);
}
