import { copyFile, open, stat, truncate } from 'node:fs/promises';

/** The server's own log, `postgres.log` in the data directory. */

/** Copied to `postgres.log.1` and emptied above this size. */
const MAX_LOG_BYTES = 8 * 1024 * 1024;

/** The server holds the file open for appending, so it is emptied and not renamed. */
export async function boundLog(file: string): Promise<void> {
  if ((await sizeOf(file)) <= MAX_LOG_BYTES) return;
  await copyFile(file, `${file}.1`);
  await truncate(file);
}

/** In bytes; 0 when there is none yet. */
export async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => undefined))?.size ?? 0;
}

/** The last lines written after `start` (bytes), in one line. */
export async function tail(file: string, start: number): Promise<string> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const from = Math.max(start, size - 4_096);
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4_096), 0, 4_096, from);
    return buffer.toString('utf8', 0, bytesRead).trim().split('\n').slice(-4).join(' | ');
  } finally {
    await handle.close();
  }
}
