import { afterEach, beforeEach, expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { verifyLog } from '../../../src/event-store/embedded-verify.js';
import { newEvent, newEvents, temporaryFolder } from '../../support/logs.js';
import { changeTables, type RawTables } from './tables.js';

/** Streams a, b and c of three events each, one after the other. */
let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeEach(async () => {
  folder = await temporaryFolder();
  const log = EmbeddedLog.open(folder.path);
  for (const stream of ['a', 'b', 'c']) await log.append(stream, 'no-stream', newEvents(3));
  await log.close();
});
afterEach(() => folder.remove());

it('finds nothing wrong with a log that is as it was written, or empty', async () => {
  expect(await verifyLog(folder.path)).toEqual({ events: 9, streams: 3, problems: 0, first: [] });
  const empty = await temporaryFolder();
  await EmbeddedLog.open(empty.path).close();
  expect(await verifyLog(empty.path)).toEqual({ events: 0, streams: 0, problems: 0, first: [] });
  await empty.remove();
  await expect(verifyLog(empty.path)).rejects.toThrow(`there is no event log in ${empty.path}`);
});

it.each<[string, (tables: RawTables) => Promise<unknown>, string[]]>([
  [
    'a changed record',
    async ({ records }) => {
      const bytes = Buffer.from(records.get(5) as Buffer);
      bytes[30] = (bytes[30] as number) ^ 4;
      await records.put(5, bytes);
    },
    ['the event log is damaged at position 5: its checksum does not match'],
  ],
  [
    'a missing record',
    ({ records }) => records.remove(5),
    ['position 5 is missing', 'the index has position 5 for revision 1 of b, where the log has nothing'],
  ],
  [
    'a missing entry in the index',
    ({ index }) => index.remove(['b', 1]),
    ['position 5 has revision 1 of b, for which the index has nothing', 'revision 1 of b is missing'],
  ],
  [
    'an entry that leads elsewhere',
    ({ index }) => index.put(['b', 1], 7),
    [
      'position 5 has revision 1 of b, for which the index has 7',
      'the index has position 7 for revision 1 of b, where the log has revision 0 of c',
    ],
  ],
  [
    'an entry of nobody',
    ({ index }) => index.put(['d', 0], 5),
    ['the index has position 5 for revision 0 of d, where the log has revision 1 of b'],
  ],
  [
    'a stream without its beginning',
    ({ records, index }) => Promise.all([records.remove(4), index.remove(['b', 0])]),
    ['position 4 is missing', 'revision 0 of b is missing'],
  ],
  [
    'a record twice',
    ({ records }) => records.put(10, Buffer.from(records.get(5) as Buffer)),
    ['position 10 has revision 1 of b, for which the index has 5'],
  ],
])('names %s', async (_, change, first) => {
  await changeTables(folder.path, change);
  expect(await verifyLog(folder.path)).toMatchObject({ problems: first.length, first });
});

it('names the first of many and counts them all', async () => {
  await changeTables(folder.path, async ({ records }) => {
    for (let position = 1; position < 9; position++) await records.put(position, Buffer.alloc(4 + position));
  });
  const { problems, first } = await verifyLog(folder.path);
  expect(problems).toBe(8);
  expect(first[0]).toContain('position 1:');
});

it('looks at what is there when it begins, while more is written', async () => {
  const log = EmbeddedLog.open(folder.path);
  const stop = new AbortController();
  const writing = (async () => {
    for (let append = 0; !stop.signal.aborted; append++) {
      const streams = Array.from({ length: 50 }, (_, n) => `w-${append}-${n}`);
      await Promise.all(streams.map((stream) => log.append(stream, 'no-stream', newEvents(2))));
      await log.append('a', 'stream-exists', [newEvent()]);
    }
  })();
  for (let seen = 9; seen < 2_000; ) {
    const verification = await verifyLog(folder.path);
    expect(verification).toMatchObject({ problems: 0, first: [] });
    expect(verification.events).toBeGreaterThanOrEqual(seen);
    seen = verification.events;
  }
  stop.abort();
  await writing;
  await log.close();
});
