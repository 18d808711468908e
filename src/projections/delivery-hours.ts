import { deliveryStatus } from '../domain/delivery-status.js';
import { CHANNELS, type Channel, type Instant, STATUSES, type Status } from '../domain/vocabulary.js';
import { type Column, upsert } from './columns.js';
import type { Change } from './projection.js';
import type { DeliveryView } from './views.js';

/**
 * How many of an organization's deliveries were requested in an hour: all, those in each status, and those with a planned
 * route over each channel. It belongs to the deliveries and is written with them, so that whoever looks for some may
 * trust it: where it counts none there are none.
 */

type Counted = 'total' | Lowercase<Status> | Lowercase<Channel>;

/** The column that counts a status or a channel. */
export const columnOf = (word: Status | Channel): Counted => word.toLowerCase() as Lowercase<typeof word>;

const COUNTED: readonly Counted[] = ['total', ...STATUSES.map(columnOf), ...CHANNELS.map(columnOf)];

interface HourRow {
  readonly organizationId: string;
  /** The hour of the request, by UTC. */
  readonly hour: Instant;
  readonly counts: Record<Counted, number>;
}

/** What a batch adds to each hour. Hours in which nothing has changed are left out. */
export function hourRows(changes: readonly Pick<Change<DeliveryView, never>, 'before' | 'after'>[]): HourRow[] {
  const rows = new Map<string, HourRow>();
  for (const { before, after } of changes) {
    const then = before && deliveryStatus(before.state);
    const now = deliveryStatus(after.state);
    if (then === now) continue;
    const { counts } = rowOf(rows, after);
    counts[columnOf(now)] += 1;
    if (then) counts[columnOf(then)] -= 1;
    else {
      counts.total += 1;
      for (const channel of plannedChannels(after)) counts[columnOf(channel)] += 1;
    }
  }
  return [...rows.values()].filter(({ counts }) => COUNTED.some((name) => counts[name] !== 0));
}

function rowOf(rows: Map<string, HourRow>, { state }: DeliveryView): HourRow {
  const { organizationId } = state.request;
  const hour = `${state.requestedAt.slice(0, 13)}:00:00.000Z`;
  const key = `${hour} ${organizationId}`;
  let row = rows.get(key);
  if (!row) {
    row = { organizationId, hour, counts: { ...nothing } };
    rows.set(key, row);
  }
  return row;
}

const plannedChannels = ({ state }: DeliveryView): ReadonlySet<Channel> =>
  new Set(state.request.legs.flatMap(({ routes }) => routes.map(({ channel }) => channel)));

const nothing = Object.fromEntries(COUNTED.map((name) => [name, 0])) as Record<Counted, number>;

const columns: readonly Column<HourRow>[] = [
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'hour', type: 'timestamptz', of: (row) => row.hour },
  ...COUNTED.map((name) => ({ name, type: 'bigint' as const, of: (row: HourRow) => row.counts[name] })),
];

export const addHours = upsert(
  'delivery_hours',
  columns,
  ['organization_id', 'hour'],
  Object.fromEntries(COUNTED.map((name) => [name, `delivery_hours.${name} + excluded.${name}`])),
);
