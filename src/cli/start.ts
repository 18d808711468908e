import type { Waybill } from '../app/waybill.js';
import { type Environment, loadConfig } from '../platform/config.js';
import { createLogger } from '../platform/logger.js';

/** A shutdown that takes longer is cut off: what is lost then is done again at the next start. */
const LONGEST_SHUTDOWN_MS = 9_500;

/** Runs until SIGTERM or SIGINT; a second signal ends it at once. */
export async function start(env: Environment): Promise<void> {
  const config = loadConfig(env, { cwd: process.cwd() });
  const logger = createLogger({ level: config.logLevel });
  // Before anything is started: a signal that comes while it starts must not leave half of it behind.
  const signalled = firstSignal();
  // Who has written a setting wrongly need not wait until all of Waybill is loaded.
  const { Waybill } = await import('../app/waybill.js');
  const waybill = await Waybill.start(config, logger);
  process.stdout.write(welcome(waybill, config.adminKey !== undefined));

  logger.info({ signal: await signalled }, 'shutting down');
  setTimeout(() => {
    logger.error('shutdown took too long and was cut off');
    process.exit(1);
  }, LONGEST_SHUTDOWN_MS).unref();
  await waybill.stop(logger);
  process.exit(0);
}

function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isFirst = true;
    const hear = (signal: NodeJS.Signals) => {
      if (!isFirst) process.exit(1);
      isFirst = false;
      resolve(signal);
    };
    process.on('SIGTERM', hear);
    process.on('SIGINT', hear);
  });
}

function welcome({ url, dataDir, newAdminKey }: Waybill, isKeyGiven: boolean): string {
  const query =
    'mutation { requestDelivery(input: { organizationId: "hospital-001", content: { text: "Hello" }, ' +
    'to: [{ channel: WEBHOOK, address: "https://example.com/hook" }] }) { delivery { id status } } }';
  const key = newAdminKey ?? (isKeyGiven ? '$WAYBILL_ADMIN_KEY' : `$(cat '${dataDir}/admin.key')`);
  const introduction =
    newAdminKey === undefined
      ? ''
      : `The administrator's key, shown this once and kept in ${dataDir}/admin.key:\n  ${newAdminKey}\n`;
  return `
Waybill is ready at ${url}/graphql
${introduction}Send the first delivery, to any webhook receiver you have:
  curl -s ${url}/graphql -H "authorization: Bearer ${key}" -H 'content-type: application/json' \\
    -d '${JSON.stringify({ query })}'

`;
}
