import { open, rm, stat } from 'node:fs/promises';
import type { Environment } from '../platform/config.js';
import { type Ask, apiOf, type ServedOptions } from './api.js';
import { count, say, size, withProgress } from './log-output.js';

const QUERY = `query ($from: DateTime, $to: DateTime, $cursor: String) {
  page: auditBundle(from: $from, to: $to, cursor: $cursor, entries: 2000) { lines cursor done total }
}`;

interface Page {
  readonly lines: readonly string[];
  readonly cursor: string | null;
  readonly done: number;
  readonly total: number;
}

/** @throws Error, one line; there is no bundle then */
export async function exportBundle(
  file: string,
  { from, to, json = false, ...server }: ServedOptions & { readonly from?: string; readonly to?: string },
  env: Environment,
): Promise<void> {
  const ask = await apiOf(env, server);
  // Without an end it reaches to the newest checkpoint, so that one is made.
  if (to === undefined) await ask('mutation { makeAuditCheckpoint { treeSize } }');
  const entries = await withProgress('export', !json, (progress) => download(ask, file, { from, to }, progress));
  const { size: bytes } = await stat(file);
  say(
    json ? JSON.stringify({ file, entries, bytes }) : `${file}: ${count(entries, 'entry', 'entries')}, ${size(bytes)}`,
  );
}

async function download(
  ask: Ask,
  file: string,
  range: { readonly from: string | undefined; readonly to: string | undefined },
  progress: (done: number, total: number) => void,
): Promise<number> {
  const handle = await open(file, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EEXIST' ? new Error(`${file} exists: nothing is overwritten`) : error;
  });
  let isWhole = false;
  try {
    let cursor: string | null = null;
    let total: number;
    do {
      const { page }: { page: Page } = await ask(QUERY, { ...range, cursor });
      await handle.write(`${page.lines.join('\n')}\n`);
      progress(page.done, page.total);
      ({ cursor, total } = page);
    } while (cursor !== null);
    await handle.sync();
    isWhole = true;
    return total;
  } finally {
    await handle.close();
    if (!isWhole) await rm(file, { force: true });
  }
}
