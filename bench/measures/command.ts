import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { CleanUp } from '../../demo/clean-up.js';
import { UsageError } from '../args.js';
import { busyPercent } from '../process-stats.js';

/** A whole number that can be given on the command line. */
export interface NumberOption {
  readonly default: number;
  readonly least: number;
  readonly most: number;
  readonly says: string;
}

/** One line of the result; `key` is its name in JSON, which never changes its meaning. */
export interface Figure {
  readonly key: string;
  readonly title: string;
  readonly value: number | string;
  readonly budget?: string;
}

export interface Measure<Name extends string> {
  /** As in `npm run bench:<name>`. */
  readonly name: string;
  /** What it measures, and how. */
  readonly about: string;
  readonly options: Readonly<Record<Name, NumberOption>>;
  readonly run: (options: Readonly<Record<Name, number>>, cleanUp: CleanUp) => Promise<readonly Figure[]>;
}

export const say = (words: string): void => void process.stderr.write(`${words}\n`);

/** Reads the command line, runs the measure, prints what came of it and removes what it started. */
export async function command<Name extends string>(measure: Measure<Name>): Promise<void> {
  const cleanUp = new CleanUp();
  try {
    const parsed = parse(measure, process.argv.slice(2));
    if (!parsed) return void process.stdout.write(help(measure));
    const busy = await busyPercent(1_000);
    if (busy > 10) say(`The machine is ${busy} % busy with other things: the figures will say little about Waybill.`);
    const figures = await measure.run(parsed.numbers, cleanUp);
    const place = {
      ...{ node: process.versions.node, cpus: availableParallelism(), busyPercentBefore: busy },
      date: new Date().toISOString(),
    };
    process.stdout.write(
      parsed.json
        ? `${JSON.stringify({ ...Object.fromEntries(figures.map(({ key, value }) => [key, value])), ...place }, null, 2)}\n`
        : `${table(figures)}\n\nNode ${place.node}, ${place.cpus} CPUs, ${busy} % busy before, ${place.date}\n`,
    );
  } catch (error) {
    if (cleanUp.isClosing) return;
    say(error instanceof UsageError ? `${error.message}. --help shows the options.` : `The bench failed: ${error}`);
    process.exitCode = error instanceof UsageError ? 2 : 1;
  } finally {
    await cleanUp.close();
  }
}

/** @throws UsageError for an unknown option or a value that makes no sense; undefined asks for the help text */
export function parse<Name extends string>({ options }: Measure<Name>, argv: readonly string[]) {
  const names = Object.keys(options) as Name[];
  const text = Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]));
  const flags = { json: { type: 'boolean' as const }, help: { type: 'boolean' as const } };
  let values: Record<string, string | boolean | undefined>;
  try {
    values = parseArgs({ args: [...argv], options: { ...text, ...flags } }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (values.help) return undefined;
  const numbers = names.map((name): [Name, number] => {
    const { default: usual, least, most } = options[name];
    const given = values[name] ?? String(usual);
    const value = Number(given);
    if (!/^\d+$/.test(String(given)) || value < least || value > most)
      throw new UsageError(`--${name} must be a whole number from ${least} to ${most}, not "${given}"`);
    return [name, value];
  });
  return { numbers: Object.fromEntries(numbers) as Record<Name, number>, json: values.json === true };
}

function help<Name extends string>({ name, about, options }: Measure<Name>): string {
  const lines = Object.entries<NumberOption>(options).map(
    ([option, { says, default: usual }]) => `${`  --${option} <n>`.padEnd(20)}${says} (default ${usual})`,
  );
  return `${about}\n\n  npm run bench:${name} -- [options]\n\n${lines.join('\n')}\n  --json            print the result as JSON\n  --help            print this\n`;
}

function table(figures: readonly Figure[]): string {
  const shown = (value: number | string) => (typeof value === 'number' ? value.toLocaleString('en-US') : value);
  const width = Math.max(66, ...figures.map(({ title }) => title.length + 2));
  return figures
    .map(({ title, value, budget }) => {
      const line = `${title.padEnd(width)}${shown(value).padStart(14)}`;
      return budget === undefined ? line : `${line}   (budget: ${budget})`;
    })
    .join('\n');
}
