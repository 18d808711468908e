import { SingleBar } from 'cli-progress';
import type { Progress } from '../event-store/embedded-verify.js';

/** What is over sooner needs no bar. */
const PATIENCE_MS = 500;
/** Without a terminal a line says how far it is, this often. */
const LINE_MS = 5_000;

/** Shows how far something is, once it takes long: a bar on a terminal, now and then a line elsewhere. */
export class ProgressBar {
  readonly #bar: SingleBar | undefined;
  readonly #name: string | undefined;
  readonly #since = performance.now();
  #saidAt = performance.now();

  constructor(name: string, isWanted: boolean) {
    if (isWanted && !process.stderr.isTTY) this.#name = name;
    if (isWanted && process.stderr.isTTY)
      this.#bar = new SingleBar({ format: `${name} {bar} {percentage}%, {eta_formatted} left`, clearOnComplete: true });
  }

  readonly update: Progress = (done, total) => {
    if (this.#name && performance.now() - this.#saidAt >= LINE_MS) {
      this.#saidAt = performance.now();
      process.stderr.write(`${this.#name}: ${Math.floor((100 * done) / Math.max(1, total))} %\n`);
    }
    if (!this.#bar || performance.now() - this.#since < PATIENCE_MS) return;
    if (!this.#bar.isActive) this.#bar.start(total, 0);
    this.#bar.setTotal(total);
    this.#bar.update(done);
  };

  stop(): void {
    this.#bar?.stop();
  }
}

/** Runs something with a bar of its own. */
export async function withProgress<Result>(
  name: string,
  isWanted: boolean,
  work: (progress: Progress) => Promise<Result>,
): Promise<Result> {
  const bar = new ProgressBar(name, isWanted);
  try {
    return await work(bar.update);
  } finally {
    bar.stop();
  }
}

export const say = (text: string): void => void process.stdout.write(`${text}\n`);

export const count = (value: number, unit: string, units = `${unit}s`): string =>
  `${value.toLocaleString('en-US')} ${value === 1 ? unit : units}`;

/** For people: 1,234 MiB and the like. */
export function size(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  let [value, unit] = [bytes, 0];
  for (; value >= 1_024 && unit < units.length - 1; unit++) value /= 1_024;
  return `${value.toLocaleString('en-US', { maximumFractionDigits: unit === 0 ? 0 : 1 })} ${units[unit]}`;
}
