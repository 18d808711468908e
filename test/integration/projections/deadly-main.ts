/** Read models whose program dies, by SIGKILL, of the delivery that is tagged `deadly`; see parking.test.ts. */
import { EventCodec } from '../../../src/event-store/codec.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { deliveries } from '../../../src/projections/deliveries.js';
import type { Projection } from '../../../src/projections/projection.js';
import { ProjectionRunner } from '../../../src/projections/runner/projection-runner.js';

const { logPath, url } = JSON.parse(process.argv.at(-1) as string) as { logPath: string; url: string };

const deadly: Projection = {
  ...deliveries,
  statements(changes) {
    if (changes.deliveries.some(({ after }) => after.state.request.tags.includes('deadly')))
      process.kill(process.pid, 'SIGKILL');
    return deliveries.statements(changes);
  },
};
const reader = EmbeddedLogReader.open(logPath);
const head = await reader.head();
const reached = () => runner.progress().every(({ position }) => position >= head) && process.exit(0);
const options = { reader, codec: new EventCodec(), postgres: { connectionString: url }, projections: [deadly] };
const runner = new ProjectionRunner(options, { progress: reached });
runner.start();
// Whoever started it is gone.
process.once('disconnect', () => process.exit());
