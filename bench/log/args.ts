import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError } from '../args.js';

export interface LogBenchOptions {
  readonly events: number;
  readonly url?: string;
  readonly isTestServer: boolean;
  readonly folder?: string;
  readonly json: boolean;
}

export const HELP = `Measures the event log through its port, with events of 500 bytes of JSON. Every append is on disk when it counts.

  npm run bench:log -- [options]

  --events <n>     events in the log when reading and opening are measured (default 100000, from 20000)
  --url <url>      measure an EventStoreDB, such as esdb://localhost:2113?tls=false, instead of the embedded log;
                   its events stay there
  --test-server    the same with the test server, in a process of its own
  --folder <path>  where the log is made and removed again: whose disk is measured (default: the folder for
                   temporary files)
  --json           print the result as JSON and nothing else on standard output
  --help           print this
`;

/** @throws UsageError for an unknown option or a value that makes no sense; undefined asks for the help text */
export function parse(argv: readonly string[]): LogBenchOptions | undefined {
  const { events, url, 'test-server': isTestServer = false, folder, json = false, help } = read(argv);
  if (help) return undefined;
  const count = Number(events);
  if (!/^\d+$/.test(events) || count < 20_000 || count > 100_000_000)
    throw new UsageError(`--events must be a whole number from 20000 to 100000000, not "${events}"`);
  return {
    events: count,
    isTestServer,
    json,
    ...(url !== undefined && { url }),
    ...(folder !== undefined && { folder: resolve(folder) }),
  };
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        events: { type: 'string', default: '100000' },
        url: { type: 'string' },
        'test-server': { type: 'boolean' },
        folder: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
