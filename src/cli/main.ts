import { Command } from 'commander';
import type { Environment } from '../platform/config.js';
import { version } from '../platform/version.js';
import { asking, type ServedOptions } from './api.js';
import { addAuditCommands } from './audit.js';
import { addCompletionCommand } from './completion.js';
import { addDatabaseCommands } from './database.js';
import { addDeadLetterCommands } from './dead-letters.js';
import { addDeliveryCommands } from './deliveries.js';
import { demo } from './demo.js';
import { addDestinationCommands } from './destinations.js';
import { addKeysCommands } from './keys.js';
import { addLogCommands, addReplayCommand } from './log.js';
import { addProjectionCommands } from './projections.js';
import { type RebuildProjectionOptions, rebuildProjection } from './rebuild-projection.js';
import { addRetentionCommands } from './retention.js';

/** The `waybill` command line. @param argv as node has it: interpreter, script, arguments */
export async function main(argv: string[]): Promise<void> {
  await programOf(process.env).parseAsync(argv);
}

/** All commands, with their options and help. */
export function programOf(env: Environment): Command {
  const program = new Command('waybill')
    .description('Delivers notifications, reports and files for organizations that must prove what they sent.')
    .version(version())
    .showHelpAfterError();

  program
    .command('start')
    .alias('serve')
    .description('run Waybill: event log, PostgreSQL, API and delivery engine (settings: see README, WAYBILL_CONFIG)')
    .action(async () => {
      const { start } = await import('./start.js');
      await start(env);
    });

  program
    .command('rebuild-projection')
    .description('build a read model of a running Waybill anew from the event log')
    .argument('[name]', 'deliveries, attempts, … (`{ projections { name } }` has them all)')
    .option('--all', 'all of them, together: the log is read once')
    .option('--verify-only', 'only compare with the live one; ends with 1 when they differ')
    .option('--rate <events>', 'read at most so many events per second (default: as fast as it can)')
    .option('--rollback', 'go back to the version before the last rebuild')
    .option('--cancel', 'end the rebuild that is going on')
    .option('--url <url>', 'where Waybill listens (default: HOST and PORT, else http://127.0.0.1:3000)')
    .option('--json', 'print the result as JSON, a line for each, without a progress bar')
    .action((name: string | undefined, options: RebuildProjectionOptions) => rebuildProjection(name, options, env));

  program
    .command('migrate')
    .description('bring the tables of the PostgreSQL that DATABASE_URL names up to date; every start does so too')
    .option('--json', 'print the result as JSON')
    .action(async (options: { json?: boolean }) => {
      const { migrate } = await import('./migrate.js');
      await migrate(env, options);
    });

  program
    .command('demo')
    .description('show everything against real servers that it starts, in about a minute (in a checkout only)')
    .allowUnknownOption()
    .argument('[options...]', 'as for `npm run demo`')
    .action((options: string[]) => demo(options));

  addProjectionCommands(program, env);
  addDeliveryCommands(program, env);
  addDeadLetterCommands(program, env);
  addDestinationCommands(program, env);
  addAuditCommands(program, env);
  addReplayCommand(program, env);
  addRetentionCommands(program, env);
  addKeysCommands(program, env);
  addDatabaseCommands(program, env);
  addLogCommands(program, env);

  asking(program.command('doctor'))
    .description('check configuration, connections, versions, clock, disk and permissions; ends with 1 on a problem')
    .action(async (options: ServedOptions) => {
      const { doctor } = await import('./doctor.js');
      await doctor(env, options);
    });

  addCompletionCommand(program);
  return program;
}
