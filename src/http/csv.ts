/**
 * CSV as RFC 4180 has it: lines end with CRLF, and what has a comma, a quote or a line break stands in quotes.
 *
 * Spreadsheets take a cell that begins with = + - @ (or their full-width forms), a tab or a line break for a formula,
 * quotes or not, and a formula can send the sheet away. Texts that begin so get an apostrophe before them (OWASP, CSV
 * injection); numbers, which we have made ourselves, do not.
 */
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;
const NEEDS_QUOTES = /[",\r\n]/;

export const csvLine = (values: readonly unknown[]): string => `${values.map(cell).join(',')}\r\n`;

function cell(value: unknown): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  const plain = textOf(value);
  const text = FORMULA.test(plain) ? `'${plain}` : plain;
  return NEEDS_QUOTES.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Lists of words are separated by semicolons, as long as that tells them apart; anything else with parts is JSON. */
function textOf(value: unknown): string {
  if (typeof value === 'string') return value;
  const isPlain = Array.isArray(value) && value.every((item) => typeof item === 'string' && !item.includes(';'));
  return isPlain ? (value as string[]).join(';') : JSON.stringify(value);
}
