import { InvalidArgumentError } from 'commander';

/** An option's value: how many rows are asked for. */
export function pageSize(text: string): number {
  const size = Number(text);
  if (!Number.isInteger(size) || size < 1 || size > 200) throw new InvalidArgumentError('must be from 1 to 200.');
  return size;
}
