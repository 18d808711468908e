import { parseArgs } from 'node:util';

export interface SimulateOptions {
  readonly seed: number;
  readonly seeds: number;
  readonly steps: number;
  readonly keepGoing: boolean;
  readonly shrink: boolean;
  readonly history: boolean;
  readonly json: boolean;
}

export const DEFAULT_STEPS = 50;

export const HELP = `Runs the delivery engine in virtual time, on a simulated log, database and providers, with one to three instances that
crash, stop, lose replies and leases, and checks what must hold throughout. The same seed gives the same history.

  npm run simulate -- [options]

  --seed <n>    the first seed (default 1)
  --seeds <n>   how many seeds, one after the other (default 1)
  --steps <n>   requests, changes and faults in each (default ${DEFAULT_STEPS})
  --keep-going  do not end at the first seed that breaks an invariant
  --no-shrink   print a broken seed as it is, without looking for a shorter history
  --history     print what has happened also when nothing was broken (with one seed)
  --json        print the result as JSON and nothing else on standard output
  --help        print this

Exit status: 0 when every invariant held, 1 when one was broken, 2 for a mistake in the command line.
`;

/** A mistake in the command line; the message is for the person who typed it. */
export class UsageError extends Error {}

/** @throws UsageError for an unknown option or a value that makes no sense; undefined asks for the help text */
export function parse(argv: readonly string[]): SimulateOptions | undefined {
  const values = read(argv);
  if (values.help) return undefined;
  const number = (name: 'seed' | 'seeds' | 'steps', least: number, most: number): number => {
    const text = values[name];
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most)
      throw new UsageError(`--${name} must be a whole number from ${least} to ${most}, not "${text}"`);
    return value;
  };
  const options = {
    seed: number('seed', 0, 2 ** 31),
    seeds: number('seeds', 1, 10_000_000),
    steps: number('steps', 1, 10_000),
    keepGoing: values['keep-going'] ?? false,
    shrink: !values['no-shrink'],
    history: values.history ?? false,
    json: values.json ?? false,
  };
  if (options.history && options.seeds > 1) throw new UsageError('--history goes with one seed');
  return options;
}

function read(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        seed: { type: 'string', default: '1' },
        seeds: { type: 'string', default: '1' },
        steps: { type: 'string', default: String(DEFAULT_STEPS) },
        'keep-going': { type: 'boolean' },
        'no-shrink': { type: 'boolean' },
        history: { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}
