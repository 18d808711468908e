import { parseArgs } from 'node:util';
import { UsageError } from '../args.js';
import { NAMES, type Name } from './systems.js';

export interface PeersOptions {
  readonly deliveries: number;
  readonly warmUp: number;
  readonly latencySeconds: number;
  readonly latencyWarmUp: number;
  readonly only: readonly Name[];
  readonly json: boolean;
}

export const HELP = `Measures Waybill and others at the same work, one after the other: accept a request with a 500-byte body over HTTP, make
one signed HTTP POST of it, record durably that it was delivered. Starts and removes everything it needs. What is compared, and what is
not the same: bench/peers/README.md

  npm run bench:peers -- [options]

  --deliveries <n>       deliveries of each throughput phase (default 20000)
  --warm-up <n>          deliveries before a system is measured (default 2000)
  --latency-seconds <n>  how long each latency phase takes, at 500 requests a second; 0 leaves it out (default 10)
  --latency-warm-up <n>  seconds of the same before it, not measured (default 5)
  --only <names>         some of them, with commas between: ${NAMES.slice(0, 3).join(', ')},
                         ${NAMES.slice(3).join(', ')}
  --json                 print the result as JSON and nothing else on standard output
  --help                 print this
`;

/** @throws UsageError for an unknown option or a value that makes no sense; undefined asks for the help text */
export function parse(argv: readonly string[]): PeersOptions | undefined {
  const values = read(argv);
  if (values.help) return undefined;
  return {
    deliveries: wholeNumber('deliveries', values.deliveries, 1, 10_000_000),
    warmUp: wholeNumber('warm-up', values['warm-up'], 0, 1_000_000),
    latencySeconds: wholeNumber('latency-seconds', values['latency-seconds'], 0, 3_600),
    latencyWarmUp: wholeNumber('latency-warm-up', values['latency-warm-up'], 0, 3_600),
    only: values.only === undefined ? NAMES : names(values.only),
    json: values.json ?? false,
  };
}

function wholeNumber(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most)
    throw new UsageError(`--${name} must be a whole number from ${least} to ${most}, not "${text}"`);
  return value;
}

/** In the order of the table, each once. */
function names(text: string): readonly Name[] {
  const asked = text.split(',').map((name) => name.trim());
  const unknown = asked.find((name) => !(NAMES as string[]).includes(name));
  if (unknown !== undefined) throw new UsageError(`--only knows ${NAMES.join(', ')}, not "${unknown}"`);
  return NAMES.filter((name) => asked.includes(name));
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        deliveries: { type: 'string', default: '20000' },
        'warm-up': { type: 'string', default: '2000' },
        'latency-seconds': { type: 'string', default: '10' },
        'latency-warm-up': { type: 'string', default: '5' },
        only: { type: 'string' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
