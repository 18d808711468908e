import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import type { EventStoreLocation } from '../event-store/event-store.js';
import { type Environment, loadConfig } from '../platform/config.js';
import type { ReplayOptions } from './replay.js';

interface LogOptions {
  readonly data?: string;
  readonly json?: boolean;
}

/**
 * `waybill log …`: what an operator does with the embedded event log itself. What reads a log is loaded by who reads one.
 */
export function addLogCommands(program: Command, env: Environment): void {
  const log = program
    .command('log')
    .description('look at, check, back up and restore the embedded event log (EventStoreDB has its own tools)');
  const command = (name: string, description: string) =>
    log
      .command(name)
      .description(description)
      .option('--data <folder>', 'the data directory (default: WAYBILL_DATA, else .waybill)')
      .option('--json', 'print the result as JSON, without a progress bar');

  command('stats', 'count the events and streams of the log and say how large it is; Waybill may be running').action(
    async (options: LogOptions) => {
      const { logStats } = await import('./log-stats.js');
      await logStats(logIn(options, env), options.json ?? false);
    },
  );
  command(
    'verify',
    'check every event, its checksum and its place in the index; ends with 1 when there is a problem; Waybill may be running',
  ).action(async (options: LogOptions) => {
    const { logVerify } = await import('./log-verify.js');
    await logVerify(logIn(options, env), options.json ?? false);
  });
  command('backup', 'copy the log, as it is at one moment, into one file that must not exist; Waybill may be running')
    .argument('<file>', 'where to write the backup')
    .action(async (file: string, options: LogOptions) => {
      const { logBackup } = await import('./log-backup.js');
      await logBackup(configOf(options, env), resolve(file), options.json ?? false);
    });
  command('restore', 'make a backup the log of a data directory that has none; Waybill must not be running there')
    .argument('<file>', 'a backup that `waybill log backup` made')
    .action(async (file: string, options: LogOptions) => {
      const { logRestore } = await import('./log-restore.js');
      await logRestore(dataIn(options, env), resolve(file), options.json ?? false);
    });
}

/** `waybill replay`: what happened in one stream, from the log alone. */
export function addReplayCommand(program: Command, env: Environment): void {
  program
    .command('replay')
    .description('print the history of one stream and the state after each event; Waybill may be running or not')
    .requiredOption('--stream <id>', 'for instance delivery-<uuid> or destination-<uuid>')
    .option('--as-of <time>', 'only what was recorded until then: a time with offset (RFC 3339), or a log position')
    .option('--data <folder>', 'a data directory (default: EVENTSTORE_URL, else WAYBILL_DATA, else .waybill)')
    .option('--json', 'print one JSON object a line for each event')
    .action(async (options: LogOptions & ReplayOptions) => {
      const { replay } = await import('./replay.js');
      await replay(locationOf(options, env), options);
    });
}

function locationOf(options: LogOptions, env: Environment): EventStoreLocation {
  const { eventStoreUrl } = configOf(options, env);
  return eventStoreUrl !== undefined && options.data === undefined
    ? { url: eventStoreUrl }
    : { path: logIn(options, env) };
}

const configOf = ({ data }: LogOptions, env: Environment) => {
  const config = loadConfig(env, { cwd: process.cwd() });
  return data === undefined ? config : { ...config, dataDir: resolve(data) };
};

const dataIn = ({ data }: LogOptions, env: Environment): string =>
  data === undefined ? loadConfig(env, { cwd: process.cwd() }).dataDir : resolve(data);

const logIn = (options: LogOptions, env: Environment): string => join(dataIn(options, env), 'log');
