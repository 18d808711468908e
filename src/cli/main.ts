import { Command } from 'commander';
import { version } from '../platform/version.js';
import { addLogCommands } from './log.js';
import { rebuildProjection } from './rebuild-projection.js';

/** The `waybill` command line. @param argv as node has it: interpreter, script, arguments */
export async function main(argv: string[]): Promise<void> {
  const program = new Command('waybill')
    .description('Delivers notifications, reports and files for organizations that must prove what they sent.')
    .version(version())
    .showHelpAfterError();

  program
    .command('start')
    .description('run Waybill: event log, PostgreSQL, API and delivery engine (settings: see README, WAYBILL_CONFIG)')
    .action(async () => {
      // Only who starts it waits until all of Waybill is loaded.
      const { start } = await import('./start.js');
      await start(process.env);
    });

  program
    .command('rebuild-projection')
    .description('build a read model of a running Waybill anew from the event log')
    .argument('<name>', 'deliveries, attempts, destinations or dashboard')
    .option('--url <url>', 'where Waybill listens (default: HOST and PORT, else http://127.0.0.1:3000)')
    .option('--json', 'print the result as JSON, without a progress bar')
    .action((name: string, options: { url?: string; json?: boolean }) => rebuildProjection(name, options, process.env));

  addLogCommands(program, process.env);

  await program.parseAsync(argv);
}
