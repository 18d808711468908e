import { say } from './log-output.js';

type Cell = string | number | boolean | null | undefined;

/** Rows under headings, each column as wide as it needs; nothing is cut, so that what is printed can be used. */
export function table(headings: readonly string[], rows: readonly (readonly Cell[])[]): void {
  const texts = [headings, ...rows].map((row) =>
    row.map((cell) => (cell === null || cell === undefined ? '-' : String(cell))),
  );
  const widths = headings.map((_, at) => Math.max(...texts.map((row) => row[at]?.length ?? 0)));
  for (const row of texts)
    say(
      row
        .map((text, at) => text.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    );
}

/** As JSON if that is wanted, else as a person reads it. */
export function print<Result>(result: Result, isJson: boolean | undefined, show: (result: Result) => void): void {
  if (isJson) say(JSON.stringify(result));
  else show(result);
}
