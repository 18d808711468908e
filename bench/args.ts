import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

export interface BenchOptions {
  readonly deliveries: number;
  readonly bulk: number;
  readonly inFlight: number;
  readonly outstanding: number;
  readonly warmUp: number;
  readonly latencyRate: number;
  readonly latencySeconds: number;
  readonly latencyWarmUp: number;
  /** Where CPU profiles go; empty for a folder that is removed afterwards. */
  readonly profile?: string;
  readonly json: boolean;
  /** The event log is an EventStoreDB test server. */
  readonly eventstoredb: boolean;
}

export const HELP = `Measures Waybill through its public API: accept a request with a 500-byte body, make one HTTP POST of it, record
the outcome durably and show it in the read models. Starts and removes everything it needs.

  npm run bench -- [options]

  --deliveries <n>       deliveries of the throughput phase (default 20000)
  --bulk <n>             requests in one requestDeliveries call, 1 to 1000 (default 200)
  --in-flight <n>        such calls at once (default 4)
  --outstanding <n>      deliveries requested and not yet received at most, so that the rate is one that
                         can be kept up (default 500)
  --warm-up <n>          deliveries before anything is measured, until V8 has compiled what is hot (default 10000)
  --latency-rate <n>     requestDelivery calls a second in the latency phase (default 500)
  --latency-seconds <n>  how long the latency phase takes; 0 leaves it out (default 20)
  --latency-warm-up <n>  seconds of the same before it, not measured: until V8 has compiled what single requests take (default 5)
  --profile [<folder>]   profile Waybill, which slows it down by about a tenth, and say how much of its CPU time each
                         stage takes; an empty folder keeps the profiles, one for each thread
  --eventstoredb         keep the log in an EventStoreDB test server instead of the embedded one
  --json                 print the result as JSON and nothing else on standard output
  --help                 print this
`;

/** A mistake in the command line; the message is for the person who typed it. */
export class UsageError extends Error {}

/** @throws UsageError for an unknown option or a value that makes no sense; undefined asks for the help text */
export function parse(argv: readonly string[]): BenchOptions | undefined {
  const values = read(argv);
  if (values.help) return undefined;
  const number = (name: keyof typeof values, least: number, most: number): number => {
    const text = String(values[name]);
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new UsageError(`--${name} must be a whole number from ${least} to ${most}, not "${text}"`);
    return value;
  };
  return {
    deliveries: number('deliveries', 1, 10_000_000),
    bulk: number('bulk', 1, 1_000),
    inFlight: number('in-flight', 1, 64),
    outstanding: number('outstanding', 1, 10_000_000),
    warmUp: number('warm-up', 0, 1_000_000),
    latencyRate: number('latency-rate', 1, 10_000),
    latencySeconds: number('latency-seconds', 0, 3_600),
    latencyWarmUp: number('latency-warm-up', 0, 3_600),
    ...(values.profile !== undefined && { profile: values.profile && resolve(values.profile) }),
    json: values.json ?? false,
    eventstoredb: values.eventstoredb ?? false,
  };
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({
      args: argv.flatMap((word, at) => (isBareProfile(word, argv[at + 1]) ? [word, ''] : word)),
      options: {
        deliveries: { type: 'string', default: '20000' },
        bulk: { type: 'string', default: '200' },
        'in-flight': { type: 'string', default: '4' },
        outstanding: { type: 'string', default: '500' },
        'warm-up': { type: 'string', default: '10000' },
        'latency-rate': { type: 'string', default: '500' },
        'latency-seconds': { type: 'string', default: '20' },
        'latency-warm-up': { type: 'string', default: '5' },
        profile: { type: 'string' },
        json: { type: 'boolean' },
        eventstoredb: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** `--profile` without a folder. */
const isBareProfile = (word: string, next = '--'): boolean => word === '--profile' && next.startsWith('--');
