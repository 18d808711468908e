import { createHash } from 'node:crypto';
import { type ContentStore, parseName } from '../event-store/content/content-store.js';

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
      const body = await from.get(name, bytes);
      // Removed meanwhile: its key was destroyed.
      if (!body) continue;
      if (createHash('sha256').update(body).digest('hex') === parseName(name)?.hash) {
        await to.put(name, body);
        copied.contents++;
        copied.bytes += body.length;
      } else copied.damaged++;
    }
  return copied;
}
