import { stat } from 'node:fs/promises';
import { backUp } from '../event-store/embedded-backup.js';
import { say, size, withProgress } from './log-output.js';

/** @param folder the log's own @throws Error, one line; there is no backup then */
export async function logBackup(folder: string, file: string, json: boolean): Promise<void> {
  const manifest = await withProgress('backup', !json, (progress) => backUp(folder, file, progress));
  if (json) return say(JSON.stringify({ file, ...manifest }));
  say(`${file}: the log up to position ${manifest.head}, ${size((await stat(file)).size)}`);
}
