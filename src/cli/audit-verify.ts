import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type BundleVerdict, verifyBundle } from '../audit/bundle-verifier.js';
import { notesIn } from '../audit/checkpoint-files.js';
import type { Environment } from '../platform/config.js';
import { apiOf, type ServedOptions } from './api.js';
import { count, say, withProgress } from './log-output.js';

export interface VerifyOptions extends ServedOptions {
  readonly offline?: boolean;
  readonly trust?: readonly string[];
  readonly checkpoints?: string;
}

/** @throws Error, one line that names the first bad entry */
export async function verifyFile(file: string, { trust, checkpoints, json = false }: VerifyOptions): Promise<void> {
  const known = checkpoints === undefined ? undefined : notesIn(await readFile(checkpoints, 'utf8'));
  const verdict = await withProgress('verify', !json, (progress) =>
    verifyBundle(
      linesOf(createReadStream(file)),
      { ...(trust && { keys: trust }), ...(known && { checkpoints: known }) },
      progress,
    ),
  );
  if (json) say(JSON.stringify({ file, ...verdict }));
  else if (verdict.ok) tell(verdict, trust !== undefined);
  if (!verdict.ok)
    throw new Error(`${file} is not what was signed. Entry ${verdict.firstBadIndex}: ${verdict.problem}.`);
}

function tell({ origin, from, entries, checkpoints, signedBy }: BundleVerdict, isTrusted: boolean): void {
  const first = from ?? 0;
  say(`${count(entries, 'entry', 'entries')} of ${origin}, ${first} to ${first + entries - 1}: as they were recorded`);
  say(`${count(checkpoints, 'checkpoint')} signed by ${signedBy.join(', ')}`);
  if (!isTrusted) say('Compare the key with one you have from elsewhere, or name that with --trust.');
}

/** @throws Error, one line that names the first bad entry */
export async function verifyServer({ json = false, ...server }: ServedOptions, env: Environment): Promise<void> {
  const ask = await apiOf(env, server);
  const { verifyAudit } = await ask<{
    verifyAudit: { ok: boolean; entries: number; firstBadIndex: number | null; problem: string | null };
  }>('{ verifyAudit { ok entries firstBadIndex problem checkpoint { treeSize rootHash signedAt } } }');
  const { ok, entries, firstBadIndex, problem } = verifyAudit;
  if (json) say(JSON.stringify(verifyAudit));
  else if (ok) say(`${count(entries, 'entry', 'entries')} of the audit trail: as the event log has them`);
  if (!ok) throw new Error(`The audit trail is not what the event log has. Entry ${firstBadIndex}: ${problem}.`);
}

/** Only a line feed ends a line: JSON may have what others take for line ends. */
async function* linesOf(stream: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let parts: Buffer[] = [];
  for await (const chunk of stream) {
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      yield Buffer.concat([...parts, chunk.subarray(start, end)]).toString('utf8');
      parts = [];
      start = end + 1;
    }
    parts.push(chunk.subarray(start));
  }
  const rest = Buffer.concat(parts).toString('utf8');
  if (rest !== '') yield rest;
}
