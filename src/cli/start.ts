import { type Environment, loadConfig } from '../platform/config.js';
import { createLogger } from '../platform/logger.js';
import { Waybill } from '../waybill.js';

/** A shutdown that takes longer is cut off: what is lost then is done again at the next start. */
const LONGEST_SHUTDOWN_MS = 9_500;

/** Runs until SIGTERM or SIGINT; a second signal ends it at once. */
export async function start(env: Environment): Promise<void> {
  const config = loadConfig(env, { cwd: process.cwd() });
  const logger = createLogger({ level: config.logLevel });
  const waybill = await Waybill.start(config, logger);
  process.stdout.write(welcome(waybill, config.adminKey !== undefined));

  let isStopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    logger.info({ signal }, 'shutting down');
    setTimeout(() => {
      logger.error('shutdown took too long and was cut off');
      process.exit(1);
    }, LONGEST_SHUTDOWN_MS).unref();
    waybill.stop(logger).then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ err: error }, 'shutdown failed');
        process.exit(1);
      },
    );
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
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
