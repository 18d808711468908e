import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ContentFiles } from '../event-store/content/content-files.js';
import { type BackupManifest, checkBackup, extractBackup } from '../event-store/embedded-backup.js';
import { DATA_FILE } from '../event-store/embedded-file.js';
import { EmbeddedLog } from '../event-store/embedded-log.js';
import { type Verification, verifyLog } from '../event-store/embedded-verify.js';
import { markRestored } from '../event-store/log-identity.js';
import { openDataDirectory, RESTORED_KEYS, syncDirectory, writeDurably } from '../platform/data-directory.js';
import { contentsOf, keysOf } from './log-backup.js';
import { copyContents } from './log-contents.js';
import { count, say, withProgress } from './log-output.js';

/**
 * Makes a backup the log of a data directory. It says of itself that it was restored, so that read models of what came
 * after the backup are known to tell another story, and are made again at the next start (see derived-state.ts).
 *
 * @throws Error, one line; the data directory has no log then, as before
 */
export async function logRestore(dataDir: string, file: string, json: boolean): Promise<void> {
  const log = join(dataDir, 'log');
  refuseToOverwrite(dataDir, log);
  const manifest = await withProgress('check', !json, (progress) => checkBackup(file, progress));

  const directory = await openDataDirectory(dataDir);
  try {
    // Nobody can start there any more, but somebody may have since.
    refuseToOverwrite(dataDir, log);
    const { events, streams } = await putInPlace(dataDir, log, file, json);
    const hasKeys = existsSync(keysOf(file));
    if (hasKeys) await writeDurably(join(dataDir, RESTORED_KEYS), await readFile(keysOf(file), 'utf8'), 0o600);
    const folder = join(dataDir, 'content');
    const copied = await copyContents(new ContentFiles(contentsOf(file)), new ContentFiles(folder));
    if (json) return say(JSON.stringify({ dataDir, events, streams, hasKeys, ...manifest, contents: copied }));
    say(`${log}: ${count(events, 'event')} in ${count(streams, 'stream')}, the log up to position ${manifest.head}`);
    say('The read models are made again from it at the next start.');
    if (copied.contents > 0)
      say(`${folder}: ${count(copied.contents, 'large content')}; WAYBILL_CONTENT must not name another place`);
    if (copied.damaged > 0) say(`${count(copied.damaged, 'large content')} of the backup is damaged and was left out`);
    if (hasKeys) say('So are its keys put into the database then; they need the key ring (keys.json) of that Waybill.');
  } finally {
    directory.release();
  }
}

function refuseToOverwrite(dataDir: string, log: string): void {
  if (existsSync(join(log, DATA_FILE)))
    throw new Error(`${dataDir} has an event log: move its folder ${log} away first, nothing is overwritten`);
}

async function putInPlace(dataDir: string, log: string, file: string, json: boolean): Promise<Verification> {
  const made = join(dataDir, 'log.restoring');
  await rm(made, { recursive: true, force: true });
  await mkdir(made, { mode: 0o700 });
  try {
    await withProgress<BackupManifest>('restore', !json, (progress) => extractBackup(file, made, progress));
    const verification = await withProgress('verify', !json, (progress) => verifyLog(made, progress));
    const { problems, first } = verification;
    if (problems > 0)
      throw new Error(`${file} was made of a damaged log, with ${count(problems, 'problem')}. The first: ${first[0]}`);
    const restored = EmbeddedLog.open(made);
    await markRestored(restored).finally(() => restored.close());
    await rm(join(made, 'lock.mdb'), { force: true });
    await rm(join(log, 'lock.mdb'), { force: true });
    await rename(made, log);
    await syncDirectory(dataDir);
    return verification;
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}
