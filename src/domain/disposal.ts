import { type Decision, record } from './rejection.js';
import type { Instant } from './vocabulary.js';

/** What an organization has disposed of in one year, batch by batch. */

interface Batch {
  readonly organizationId: string;
  /** The class, and how long it says that things are kept. */
  readonly retention: string;
  readonly keep: string;
  /** The last days of the first and the last week in which it was requested. */
  readonly firstWeek: string;
  readonly lastWeek: string;
  /** Nothing that was sealed with these keys can be read from now on; whoever has one destroys it. */
  readonly keys: readonly string[];
  readonly by: string;
}

export interface DisposalEvent {
  readonly type: 'DataDisposed';
  readonly at: Instant;
  readonly data: Batch;
}

export interface Dispose extends Batch {
  readonly type: 'Dispose';
  readonly now: Instant;
}

export interface DisposalState {
  readonly keysDestroyed: number;
}

function decideDisposal({ type: _, now, ...data }: Dispose): Decision<DisposalEvent> {
  return data.keys.length === 0 ? record() : record({ type: 'DataDisposed', at: now, data });
}

export const disposal = {
  category: 'disposal',
  initial: { keysDestroyed: 0 } as DisposalState,
  decide: decideDisposal,
  evolve: ({ keysDestroyed }: DisposalState, { data }: DisposalEvent): DisposalState => ({
    keysDestroyed: keysDestroyed + data.keys.length,
  }),
} as const;
