import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedLog } from '../../src/event-store/embedded-log.js';
import type { EventStore } from '../../src/event-store/event-store.js';
import { EventStoreDb } from '../../src/event-store/eventstoredb/event-store-db.js';
import { startEventStore } from '../../test/support/eventstoredb/start.js';
import type { LogBenchOptions } from './args.js';

/** A store to measure: opened as often as asked, the same one every time, never twice at once. */
export interface BenchStore {
  readonly name: string;
  open(): Promise<EventStore>;
  /** What it takes on disk; undefined where nobody can tell. */
  bytes(): Promise<number | undefined>;
  /** Removes what the bench made, where it can be removed. */
  remove(): Promise<void>;
}

export async function benchStore({ url, isTestServer, folder = tmpdir() }: LogBenchOptions): Promise<BenchStore> {
  if (url !== undefined) return adapter('EventStoreDB adapter', url, async () => undefined);
  if (isTestServer) {
    const path = await mkdtemp(join(folder, 'waybill-bench-log-'));
    const server = await startEventStore({ path });
    return adapter('EventStoreDB adapter, test server', server.url, async () => {
      await server.stop();
      await remove(path);
    });
  }
  const path = await mkdtemp(join(folder, 'waybill-bench-log-'));
  return {
    name: 'embedded',
    open: async () => EmbeddedLog.open(path),
    bytes: async () => {
      const files = await readdir(path);
      const sizes = files.map(async (file) => (await stat(join(path, file))).size);
      return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
    },
    remove: () => remove(path),
  };
}

const adapter = (name: string, url: string, removed: () => Promise<void>): BenchStore => ({
  name,
  open: () => EventStoreDb.connect(url),
  bytes: async () => undefined,
  remove: removed,
});

const remove = (path: string): Promise<void> => rm(path, { recursive: true, force: true });
