import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { contentStoreOf } from '../app/contents.js';
import { ContentFiles } from '../event-store/content/content-files.js';
import { backUp } from '../event-store/embedded-backup.js';
import type { Config } from '../platform/config.js';
import { visitDatabase } from '../platform/visit-database.js';
import { exportKeys } from '../security/key-backup.js';
import { type Copied, copyContents } from './log-contents.js';
import { count, say, size, withProgress } from './log-output.js';

/** The keys of a backup lie beside it … */
export const keysOf = (file: string): string => `${file}.keys`;
/** … and so do the large contents that its events name. */
export const contentsOf = (file: string): string => `${file}.content`;

const NOTHING: Copied = { contents: 0, bytes: 0, damaged: 0 };

/**
 * The log, and then the keys that what is personal in it is sealed with, as they are in the database: wrapped. The key
 * ring that opens them is not backed up: log, keys and ring in one place would protect nothing. Large contents are copied
 * last: what an event names was stored before it, so none is missing. Those in S3 are not copied.
 *
 * @throws Error, one line; there is no backup then
 */
export async function logBackup(
  config: Pick<Config, 'dataDir' | 'databaseUrl' | 'content'>,
  file: string,
  json: boolean,
) {
  const manifest = await withProgress('backup', !json, (progress) =>
    backUp(join(config.dataDir, 'log'), file, progress),
  );
  // A folder that no Waybill was ever started on has a log at most.
  const hasDatabase = config.databaseUrl !== undefined || existsSync(join(config.dataDir, 'instance.id'));
  const keys = hasDatabase ? await visitDatabase(config, (pool) => exportKeys(pool, keysOf(file))) : 0;
  const store = contentStoreOf(config);
  const isCopied = store instanceof ContentFiles;
  const copied = isCopied ? await copyContents(store, new ContentFiles(contentsOf(file))) : NOTHING;
  if (json) return say(JSON.stringify({ file, keys, ...manifest, contents: copied }));
  say(`${file}: the log up to position ${manifest.head}, ${size((await stat(file)).size)}`);
  if (keys > 0)
    say(`${keysOf(file)}: ${count(keys, 'key')}, wrapped; the key ring that opens them is not in the backup`);
  const { contents, bytes, damaged } = copied;
  if (contents > 0) say(`${contentsOf(file)}: ${count(contents, 'large content')}, ${size(bytes)}`);
  if (damaged > 0) say(`${count(damaged, 'content')} in ${store.place} not copied: damaged, or only half written yet`);
  if (!isCopied) say(`Large contents are in ${store.place} and not in the backup: keep versions of them there.`);
}
