import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { openTables } from '../../src/event-store/embedded-log-reader.js';
import { LogRoom } from '../../src/event-store/embedded-room.js';
import { temporaryFolder } from '../support/logs.js';

/** Commits of all kinds, and readers that keep LMDB from using pages again. */
const commits = fc.array(
  fc.record({
    records: fc.oneof(
      fc.array(fc.integer({ min: 50, max: 3_000 }), { minLength: 1, maxLength: 1_000 }),
      fc.array(fc.integer({ min: 1_000, max: 900_000 }), { minLength: 1, maxLength: 8 }),
    ),
    /** Streams whose names are far from each other, or next to each other. */
    apart: fc.boolean(),
    reads: fc.boolean(),
  }),
  { minLength: 1, maxLength: 25 },
);

it('no commit takes more than the room that was taken for it', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(commits, async (all) => {
      const folder = await temporaryFolder();
      const { env, log, index } = openTables(folder.path, false);
      const room = new LogRoom(folder.path, env);
      const readers: ReturnType<typeof env.useReadTransaction>[] = [];
      const used = () => {
        const { lastPageNumber, pageSize } = env.getStats() as { lastPageNumber: number; pageSize: number };
        return (lastPageNumber + 1) * pageSize;
      };
      try {
        let position = 0;
        for (const { records, apart, reads } of all) {
          if (reads) readers.push(env.useReadTransaction());
          const bytes = records.reduce((sum, length) => sum + length, 0);
          await room.take(records.length, bytes);
          const { size } = await stat(join(folder.path, 'data.mdb'));
          await log.batch(() => {
            for (const length of records) {
              position++;
              log.put(position, Buffer.alloc(length, position), { append: true } as never).catch(() => undefined);
              const name = apart ? `${(position * 2_654_435_761) % 4_294_967_296}`.padStart(40, 's') : `s-${position}`;
              index.put([name, 0], position);
            }
          });
          env.resetReadTxn();
          expect(used()).toBeLessThanOrEqual(size);
        }
        expect((await stat(join(folder.path, 'data.mdb'))).size - used()).toBeLessThan(12 * 1024 * 1024);
      } finally {
        for (const reader of readers) reader.done();
        await room.close();
        await env.close();
        await folder.remove();
      }
    }),
    { numRuns: 25, endOnFailure: true },
  );
});

it('what is closed while room is being taken writes to no file that is opened after it', async () => {
  const folder = await temporaryFolder();
  const { env } = openTables(folder.path, false);
  const room = new LogRoom(folder.path, env);
  const taking = room.take(1_000, 50 * 1024 * 1024);
  const refused = expect(taking).rejects.toThrow('the event log is closed');
  await room.close();
  // It has the number that the log's file had.
  const next = await open(join(folder.path, 'next'), 'w');
  await refused;
  expect(() => room.take(1, 1)).toThrow('the event log is closed');
  expect((await next.stat()).size).toBe(0);
  await next.close();
  await room.close();
  await env.close();
  await folder.remove();
});
