import { createHash, type Hash } from 'node:crypto';
import {
  type ContentName,
  type ContentStore,
  parseName,
  provisionalName,
  Unreadable,
} from '../event-store/content/content-store.js';

export interface Copied {
  readonly contents: number;
  readonly bytes: number;
  /** Not what their names say: damaged, or of an append that was under way and that no event names yet. */
  readonly damaged: number;
}

/** Copies all large contents from one place to another, one after the other, with the mark that says whose they are. */
export async function copyContents(from: ContentStore, to: ContentStore): Promise<Copied> {
  const copied = { contents: 0, bytes: 0, damaged: 0 };
  const mark = await from.readMark();
  if (mark === undefined) return copied;
  await to.writeMark(mark);
  const there = new Set<string>();
  for await (const page of to.list()) for (const { name } of page) there.add(name);
  for await (const page of from.list())
    for (const { name, bytes } of page) {
      if (there.has(name)) continue;
      const parsed = parseName(name) as ContentName;
      const provisional = provisionalName(parsed);
      const digest = createHash('sha256');
      try {
        await to.put(provisional, noted(from.read(name, bytes, { start: 0, end: bytes }), digest));
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        // One that is not there was removed meanwhile: its key was destroyed.
        if (error.reason === 'damaged') copied.damaged++;
        continue;
      }
      if (digest.digest('hex') === parsed.hash) {
        await to.rename(provisional, name);
        copied.contents++;
        copied.bytes += bytes;
      } else {
        await to.remove([provisional]);
        copied.damaged++;
      }
    }
  return copied;
}

async function* noted(source: AsyncIterable<Buffer>, digest: Hash): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    digest.update(chunk);
    yield chunk;
  }
}
