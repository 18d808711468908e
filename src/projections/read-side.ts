import type { DataSource } from 'typeorm';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import { AttemptsInDoubt } from './attempts-in-doubt-query.js';
import { AttemptQueries } from './attempts-query.js';
import { DashboardQueries } from './dashboard-query.js';
import { DeliveryQueries } from './deliveries-query.js';
import { DestinationQueries } from './destinations-query.js';
import { InboxQueries } from './inbox-query.js';
import { LegQueries } from './legs-query.js';
import { ParkedEvents } from './parked-query.js';
import { type Moment, type Past, pastOf } from './past.js';
import { PastDashboard } from './past-dashboard.js';
import { PastDeliveries } from './past-deliveries.js';
import { PerformanceQueries } from './performance-query.js';
import type { ProjectionHost } from './runner/host.js';
import { SuppressionQueries } from './suppressions-query.js';
import { TenantReads } from './tenant-reads.js';

/** Everything that is read: the queries of each read model, and the projections that fill them. */
export class ReadSide {
  readonly deliveries: DeliveryQueries;
  readonly attempts: AttemptQueries;
  readonly attemptsInDoubt: AttemptsInDoubt;
  readonly destinations: DestinationQueries;
  readonly dashboard: DashboardQueries;
  readonly legs: LegQueries;
  readonly performance: PerformanceQueries;
  readonly inbox: InboxQueries;
  readonly parked: ParkedEvents;
  readonly suppressions: SuppressionQueries;
  readonly past: {
    readonly deliveries: PastDeliveries;
    readonly dashboard: PastDashboard;
    of(moment: Moment): Promise<Past>;
  };

  constructor(
    database: DataSource,
    readonly projections: ProjectionHost,
    log: { readonly reader: EventReader; readonly codec: EventCodec },
  ) {
    const reads = new TenantReads(database);
    this.deliveries = new DeliveryQueries(reads);
    this.attempts = new AttemptQueries(reads);
    this.attemptsInDoubt = new AttemptsInDoubt(reads);
    this.destinations = new DestinationQueries(reads);
    this.dashboard = new DashboardQueries(reads);
    this.legs = new LegQueries(reads);
    this.performance = new PerformanceQueries(reads);
    this.inbox = new InboxQueries(reads);
    this.parked = new ParkedEvents(database);
    this.suppressions = new SuppressionQueries(reads);
    const { reader, codec } = log;
    this.past = {
      deliveries: new PastDeliveries(reader, codec, this.deliveries),
      dashboard: new PastDashboard(reader, codec, reads),
      of: (moment) => pastOf(moment, reader),
    };
  }

  /** Why queries may not be up to date, in words for an operator; undefined when all is well. */
  problem(): string | undefined {
    const all = this.projections.progress();
    if (all.length === 0) return 'starting';
    const failing = all.find(({ state }) => state === 'failing');
    return failing && `${failing.name}: ${failing.lastError ?? 'failing'}`;
  }
}
