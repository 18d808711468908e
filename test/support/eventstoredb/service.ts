import type { Store } from './store.js';
import type { Users } from './users.js';

/** What every call is served from. */
export interface Service {
  readonly store: Store;
  readonly users: Users;
  /** Bytes. */
  readonly maxAppendSize: number;
  /** Aborts when the server is told to stop: what would go on for ever ends then. */
  readonly stopping: AbortSignal;
}
