import fc from 'fast-check';
import { expect, it } from 'vitest';
import { csvLine } from '../../src/http/csv.js';
import { takesGzip } from '../../src/http/exports.js';

/** Reads one line as RFC 4180 says, and as nothing else does. */
function cellsOf(line: string): string[] {
  const cells: string[] = [];
  for (let at = 0; at <= line.length - 2; ) {
    const quoted = line[at] === '"' ? /^"((?:[^"]|"")*)"/.exec(line.slice(at)) : undefined;
    const [raw, text] = quoted
      ? [quoted[0], quoted[1]?.replaceAll('""', '"')]
      : [/^[^,"\r\n]*/.exec(line.slice(at))?.[0] ?? ''];
    cells.push(text ?? raw);
    at += raw.length + 1;
  }
  return cells;
}

const awkward = fc.string({ unit: fc.constantFrom(...'ab,"\r\n=+-@\t;\'é＝😀') });

it('every text comes back from a line of CSV, and none of them is a formula', () => {
  fc.assert(
    fc.property(fc.array(awkward, { minLength: 1 }), (texts) => {
      const line = csvLine(texts);
      expect(line.endsWith('\r\n')).toBe(true);
      const cells = cellsOf(line);
      expect(cells.map((cell, index) => (texts[index] !== cell ? cell.replace(/^'/, '') : cell))).toEqual(texts);
      for (const cell of cells) expect(cell).not.toMatch(/^[=+\-@\t\r\n＝]/);
    }),
  );
});

it('numbers are numbers, nothing is nothing, lists and objects keep their parts', () => {
  expect(csvLine([-1, 1.5, null, undefined, true, 3n])).toBe('-1,1.5,,,true,3\r\n');
  expect(csvLine([['a', 'b'], ['a;b'], { a: [1] }])).toBe('a;b,"[""a;b""]","{""a"":[1]}"\r\n');
});

it.each([
  [undefined, false],
  ['', false],
  ['gzip', true],
  ['br, gzip;q=0.1', true],
  ['gzip; q=0', false],
  ['*', true],
  ['*;q=0', false],
  ['identity', false],
])('the header accept-encoding: %s', (header, expected) => {
  expect(takesGzip(header)).toBe(expected);
});
