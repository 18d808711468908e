/** One instance's projections in a process of their own, for tests that kill it; see instance-process.ts. */
import { EventCodec } from '../../../src/event-store/codec.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { ProjectionHost } from '../../../src/projections/runner/host.js';
import { type FromInstance, settingsOf } from './instance-process.js';

const { logPath, url, owner, leaseMs } = settingsOf(process.argv);
const say = (message: FromInstance) => process.send?.(message);

const reader = EmbeddedLogReader.open(logPath);
const postgres = { connectionString: url };
const host = new ProjectionHost({ reader, codec: new EventCodec(), postgres, owner, leaseMs, isAlone: false });
host.start();
await host.ready;
const stopping = new AbortController();
const telling = (async () => {
  for await (const changes of host.changes(() => true, stopping.signal)) say({ changed: changes.map(({ id }) => id) });
})();
say({ ready: true });

process.on('message', async ({ waitFor }: { waitFor: string }) => {
  if (await host.waitFor(BigInt(waitFor), 60_000)) say({ reached: waitFor });
});
// Whoever started it is gone.
process.once('disconnect', () => process.exit());
process.once('SIGTERM', async () => {
  stopping.abort();
  await telling;
  await host.stop();
  await reader.close();
  process.disconnect();
});
