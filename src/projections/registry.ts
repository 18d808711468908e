import { attempts } from './attempts.js';
import { dashboard } from './dashboard.js';
import { deliveries } from './deliveries.js';
import { destinations } from './destinations.js';
import { inboxMessages } from './inbox.js';
import { legs } from './legs.js';
import type { Projection } from './projection.js';
import { suppressions } from './suppressions.js';

/** Every read model there is. */
export const projections: readonly Projection[] = [
  deliveries,
  attempts,
  destinations,
  dashboard,
  legs,
  suppressions,
  inboxMessages,
];
