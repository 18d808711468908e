/**
 * A process that appends to a log as fast as it can until it is killed, and writes a line for every append that was
 * acknowledged: stream, revision, and the ids of its events. Each event knows its place in its append. While the log is
 * unavailable, it says why, once, and tries the same append again.
 *
 * Arguments: the compiled embedded-log.js, the log's folder.
 */
import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

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
    const result = await appendAtLast(streamId, expected, events);
    if (!result.ok) throw new Error(`somebody else writes to ${streamId}`);
    expected = result.revision;
    say({ streamId, revision: result.revision, ids: events.map(({ id }) => id) });
  }
}

let problem;
async function appendAtLast(...append) {
  for (;;) {
    try {
      return await log.append(...append);
    } catch (error) {
      if (error.name !== 'LogUnavailable') throw error;
      if (problem !== error.message) say({ problem: error.message });
      problem = error.message;
      await delay(20);
    }
  }
}

function say(line) {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

await Promise.all(Array.from({ length: 12 }, (_, index) => appendForever(`kill-${randomUUID()}`, 1 + (index % 3))));
