/**
 * `npm run demo`: the hospital of the tutorials sends its reports, events and alerts through a Waybill of its own, to a
 * mail server, a webhook receiver and an SFTP server that are started here. Ends with 1 when anything did not come as it should, and
 * leaves nothing behind, also when it is interrupted.
 *
 * `npm run demo -- --eventstoredb`: the same with the EventStoreDB test server as the event log.
 */
import { parseArgs } from 'node:util';
import { startWaybill } from '../test/support/waybill-process.js';
import { Checks } from './checks.js';
import { CleanUp } from './clean-up.js';
import { createDestinations, ORGANIZATION } from './hospital.js';
import { startReceivers } from './receivers.js';
import { received, table, verdict } from './report.js';
import * as scenes from './scenes.js';
import { watchDeliveries } from './watch.js';

const startedAt = performance.now();
const seconds = () => (performance.now() - startedAt) / 1_000;
const say = (words: string) => console.log(`${seconds().toFixed(1).padStart(5)} s  ${words}`);

const cleanUp = new CleanUp();
const { values: options } = parseArgs({ options: { eventstoredb: { type: 'boolean', default: false } } });

try {
  process.exitCode = (await run()) ? 0 : 1;
} catch (error) {
  if (!cleanUp.isClosing) console.error(`\nThe demo could not go on: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await cleanUp.close();
}

async function run(): Promise<boolean> {
  const receivers = await cleanUp.opened(startReceivers(), (open) => open.close());
  say(`a mail server listens on port ${receivers.mailPort}, a webhook receiver at ${receivers.webOrigin}`);
  const waybill = await cleanUp.opened(startWaybill({ eventStoreDb: options.eventstoredb }), (running) =>
    running.stop(),
  );
  const log = options.eventstoredb ? 'an EventStoreDB test server' : 'its event log';
  say(`Waybill is ready at ${waybill.url}/graphql, with ${log} and PostgreSQL in a temporary folder`);
  const watch = await cleanUp.opened(Promise.resolve(watchDeliveries(waybill)), (open) => open.close());
  const destinations = await createDestinations(waybill, receivers);
  say(`${ORGANIZATION} has set up its destinations: 3 for e-mail, 4 webhooks, SFTP, a folder, downloads`);

  const checks = new Checks();
  const stage: scenes.Stage = { waybill, receivers, destinations, watch, checks, say };
  const scheduled = await scenes.scheduled(stage);
  const outcomes = [
    await scenes.dailyReport(stage),
    await scenes.urgentTwice(stage),
    await scenes.flakyReceiver(stage),
    await scenes.deadReceiver(stage),
    await scenes.approval(stage),
    await scenes.deadLetter(stage),
    await scenes.yearlyAudit(stage),
    await scenes.bulk(stage),
    await scheduled.end,
  ];

  const summary = received(receivers, destinations.signingSecrets, checks);
  const { isWell, words } = verdict(checks, seconds());
  console.log(`\n${table(outcomes)}\n\n${summary}\n\n${words}`);
  return isWell;
}
