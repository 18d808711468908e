import { EmbeddedLogReader } from '../event-store/embedded-log-reader.js';
import { statsOf } from '../event-store/embedded-stats.js';
import { count, say, size, withProgress } from './log-output.js';

/** @param folder the log's own @throws Error, one line */
export async function logStats(folder: string, json: boolean): Promise<void> {
  const reader = EmbeddedLogReader.open(folder);
  try {
    const stats = await withProgress('stats', !json, (progress) => statsOf(folder, reader, progress));
    if (json) return say(JSON.stringify(stats));
    const { events, streams, bytes, bytesPerEvent, firstCreated, lastCreated } = stats;
    say(`${count(events, 'event')} in ${count(streams, 'stream')}, the newest at position ${stats.head}`);
    say(`${size(bytes)} on disk${bytesPerEvent === null ? '' : `, ${bytesPerEvent} bytes per event`}`);
    if (firstCreated !== null) say(`recorded from ${firstCreated} to ${lastCreated}`);
    list('events by type', stats.eventsByType);
    list('streams by category', stats.streamsByCategory);
  } finally {
    await reader.close();
  }
}

function list(title: string, counts: Readonly<Record<string, number>>): void {
  const rows = Object.entries(counts);
  if (rows.length === 0) return;
  const width = Math.max(...rows.map(([name]) => name.length));
  say(`\n${title}`);
  for (const [name, value] of rows) say(`  ${name.padEnd(width)}  ${value.toLocaleString('en-US').padStart(13)}`);
}
