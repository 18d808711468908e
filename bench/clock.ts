/** Milliseconds of a clock that all processes of one machine share (CLOCK_MONOTONIC) and nobody sets. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** What to add to `monotonicMs` to get the time of day in milliseconds: Date.now() changes at the millisecond's edge. */
export function wallClockOffsetMs(): number {
  const before = Date.now();
  let now = before;
  while (now === before) now = Date.now();
  return now - monotonicMs();
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

/** Nearest rank, rounded to hundredths. */
export function percentiles(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((one, other) => one - other);
  const at = (share: number) => sorted[Math.max(Math.ceil(sorted.length * share) - 1, 0)] ?? Number.NaN;
  return { p50: rounded(at(0.5), 2), p99: rounded(at(0.99), 2) };
}

export const rounded = (value: number, digits: number): number => Number(value.toFixed(digits));
