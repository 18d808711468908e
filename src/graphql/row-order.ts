import { PRIORITIES } from '../domain/vocabulary.js';
import { badInput } from './errors.js';

/** By one field of a row; `field` is its name as enums are written: `SUCCESS_RATE`. */
export interface RowOrder {
  readonly field: string;
  readonly direction: 'ASC' | 'DESC';
}

const MOST = 5;

/**
 * The few rows of an aggregate in the order that is asked for, by each field within those before it; rows without a value
 * come last. What is equal, or not asked for, stays in the order that the rows have.
 *
 * @throws ApiError, before anything is read, for too many fields
 */
export async function inOrder<Row extends object>(
  orderBy: readonly RowOrder[] | null | undefined,
  read: () => Promise<readonly Row[]>,
): Promise<readonly Row[]> {
  if (!orderBy) return await read();
  if (orderBy.length > MOST) throw badInput([{ path: 'orderBy', problem: `must not have more than ${MOST} fields` }]);
  const keys = orderBy.map(({ field, direction }) => ({ name: propertyOf(field) as keyof Row, direction }));
  return (await read()).toSorted((one, other) => {
    for (const { name, direction } of keys) {
      const found = compared(rankOf(name, one[name]), rankOf(name, other[name]), direction);
      if (found !== 0) return found;
    }
    return 0;
  });
}

export const propertyOf = (field: string): string =>
  field.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** Of priorities the most urgent is the first. */
const rankOf = (name: PropertyKey, value: unknown): unknown =>
  name === 'priority' ? PRIORITIES.indexOf(value as (typeof PRIORITIES)[number]) : value;

function compared(one: unknown, other: unknown, direction: RowOrder['direction']): number {
  if (one === other) return 0;
  if (one === null) return 1;
  if (other === null) return -1;
  return (one as number) < (other as number) === (direction === 'ASC') ? -1 : 1;
}
