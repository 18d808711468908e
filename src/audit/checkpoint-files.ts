import { appendFile, mkdir, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { originOf, type SignedCheckpoint } from './checkpoint.js';
import type { CheckpointPublisher } from './publications.js';

/**
 * Checkpoints as files of a folder, one a month, a blank line between two; and the keys they can be checked with, in
 * `public-keys.txt`. To be kept where whoever can change the database cannot change them.
 */
export class CheckpointFiles implements CheckpointPublisher {
  readonly name = 'files';
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async publish(checkpoint: SignedCheckpoint, keys: readonly string[]): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o755 });
    await appendDurably(join(this.#folder, `checkpoints-${checkpoint.time.slice(0, 7)}.txt`), `${checkpoint.note}\n`);
    const file = join(this.#folder, 'public-keys.txt');
    const known = await readFile(file, 'utf8').catch(() => '');
    const fresh = keys.filter((key) => !known.split('\n').includes(key));
    if (fresh.length > 0) await appendDurably(file, `${fresh.join('\n')}\n`);
  }

  /** Those of one log, as they were published. */
  async read(log: string): Promise<string[]> {
    const names = await readdir(this.#folder).catch(() => []);
    const notes: string[] = [];
    for (const name of names.filter((each) => /^checkpoints-\d{4}-\d\d\.txt$/.test(each)).sort())
      notes.push(...notesIn(await readFile(join(this.#folder, name), 'utf8')));
    return notes.filter((note) => note.startsWith(`${originOf(log)}\n`));
  }
}

/** Notes that follow each other, with a blank line between two. */
export const notesIn = (text: string): string[] =>
  text
    .split(/\n\n(?!— )/)
    .filter((note) => note.trim() !== '')
    .map((note) => `${note.trimEnd()}\n`);

async function appendDurably(file: string, text: string): Promise<void> {
  await appendFile(file, text, { mode: 0o644 });
  const handle = await open(file, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
