import type { SuppressionReason } from '../domain/suppression.js';
import type { Channel, Instant } from '../domain/vocabulary.js';
import { type Column, replacing, upsert } from './columns.js';
import type { Projection } from './projection.js';
import { type SuppressionView, suppressions as stream } from './views.js';

/** One address that was on the list at some time. */
export interface SuppressionRow {
  readonly id: string;
  readonly organizationId: string;
  readonly channel: Channel;
  readonly address: string;
  readonly reason: SuppressionReason;
  readonly since: Instant;
  readonly deliveryId: string | null;
  readonly note: string | null;
  readonly by: string;
  /** False once it was released. */
  readonly listed: boolean;
}

function suppressionRow({ id, state, updatedAt }: SuppressionView): SuppressionRow {
  const { organizationId, channel, address, reason, by, deliveryId = null, note = null } = state;
  const listed = state.tag === 'listed';
  const since = listed ? state.since : updatedAt;
  return { id, organizationId, channel, address, reason, since, deliveryId, note, by, listed };
}

const columns: readonly Column<SuppressionRow>[] = [
  { name: 'id', type: 'uuid', of: (row) => row.id },
  { name: 'organization_id', type: 'text', of: (row) => row.organizationId },
  { name: 'channel', type: 'text', of: (row) => row.channel },
  { name: 'address', type: 'text', of: (row) => row.address },
  { name: 'reason', type: 'text', of: (row) => row.reason },
  { name: 'since', type: 'timestamptz', of: (row) => row.since },
  { name: 'delivery_id', type: 'uuid', of: (row) => row.deliveryId },
  { name: 'note', type: 'text', of: (row) => row.note },
  { name: 'by', type: 'text', of: (row) => row.by },
  { name: 'listed', type: 'boolean', of: (row) => row.listed },
];
const changing = ['address', 'reason', 'since', 'delivery_id', 'note', 'by', 'listed'];
const write = upsert('suppressions', columns, ['id'], replacing(...changing));

export const suppressions: Projection = {
  name: 'suppressions',
  version: 2,
  tables: ['suppressions'],
  prefixes: [stream.prefix],
  statements: ({ suppressions: changes }) =>
    changes.length === 0 ? [] : [write(changes.map(({ after }) => suppressionRow(after)))],
};
