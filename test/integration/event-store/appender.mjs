/**
 * A process that appends to a log as fast as it can until it is killed, and writes a line for every append that was
 * acknowledged: stream, revision, and the ids of its events. Each event knows its place in its append.
 *
 * Arguments: the compiled embedded-log.js, the log's folder.
 */
import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';

const { EmbeddedLog } = await import(process.argv[2]);
const log = EmbeddedLog.open(process.argv[3]);

async function appendForever(streamId, size) {
  for (let expected = 'no-stream'; ; ) {
    const append = randomUUID();
    const events = Array.from({ length: size }, (_, nth) => ({
      id: randomUUID(),
      type: 'Appended',
      data: { append, nth, of: size },
      metadata: {},
    }));
    const result = await log.append(streamId, expected, events);
    if (!result.ok) throw new Error(`somebody else writes to ${streamId}`);
    expected = result.revision;
    writeSync(1, `${JSON.stringify({ streamId, revision: result.revision, ids: events.map(({ id }) => id) })}\n`);
  }
}
await Promise.all(Array.from({ length: 12 }, (_, index) => appendForever(`kill-${randomUUID()}`, 1 + (index % 3))));
