import type { Moment } from '../projections/past.js';
import { badInput } from './errors.js';

/** A moment of the past as clients name it. */
export interface AsOf {
  readonly at?: Date | null;
  readonly position?: bigint | null;
}

/** @throws ApiError unless it is named in exactly one way */
export function momentOf({ at, position }: AsOf): Moment {
  if (at && !hasPosition(position)) return { at };
  if (!at && hasPosition(position)) return { position };
  throw badInput([{ path: 'asOf', problem: 'give either at or position' }]);
}

const hasPosition = (position: bigint | null | undefined): position is bigint =>
  position !== null && position !== undefined;
