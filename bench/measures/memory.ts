import { ownMemoryMib, rssMib } from '../process-stats.js';

export interface Sample {
  /** Seconds since the first sample. */
  readonly at: number;
  /** Everything that is resident, pages of the log that the kernel has mapped and can drop included. */
  readonly rssMib: number;
  /** The heap, buffers and stacks: what is the process's own. */
  readonly ownMib: number;
}

/** Looks at a process's memory once a second, from outside. */
export class MemoryWatch {
  readonly samples: Sample[] = [];
  readonly #startedAt = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.#timer = setInterval(() => {
      const [rss, own] = [rssMib(pid), ownMemoryMib(pid)];
      if (rss === undefined || own === undefined) return;
      this.samples.push({ at: (performance.now() - this.#startedAt) / 1_000, rssMib: rss, ownMib: own });
    }, 1_000);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  peak(of: 'rssMib' | 'ownMib'): number {
    return this.samples.reduce((most, sample) => Math.max(most, sample[of]), 0);
  }
}

/**
 * The straight line through the samples, by least squares.
 *
 * @returns how much it rises per second
 */
export function slope(points: readonly (readonly [x: number, y: number])[]): number {
  const n = points.length;
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / n;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / n;
  let [covariance, variance] = [0, 0];
  for (const [x, y] of points) {
    covariance += (x - meanX) * (y - meanY);
    variance += (x - meanX) ** 2;
  }
  return variance === 0 ? 0 : covariance / variance;
}
