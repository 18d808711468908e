import { open } from 'node:fs/promises';
import { readIfPresent, writeDurably } from './data-directory.js';

/**
 * The ids of destroyed keys, one a line, in the data directory. Log and database have them too; this third list is for
 * the day on which both are restored from backups that are older than an erasure.
 */
export class DestroyedKeysFile {
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** Each once; the file is then as short as it can be. */
  async read(): Promise<string[]> {
    const lines = ((await readIfPresent(this.#file)) ?? '').split('\n').filter(Boolean);
    const ids = [...new Set(lines)];
    if (ids.length < lines.length) await writeDurably(this.#file, `${ids.join('\n')}\n`, 0o600);
    return ids;
  }

  /** Returns when it would survive a power cut. */
  async add(ids: readonly string[]): Promise<void> {
    const handle = await open(this.#file, 'a', 0o600);
    try {
      await handle.writeFile(ids.map((id) => `${id}\n`).join(''));
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}
