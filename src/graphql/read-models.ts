import { entriesOf } from '../commands/suppressions.js';
import { type Channel, isUuid, mayAccess, type Organizations } from '../domain/vocabulary.js';
import type { AttemptRow } from '../projections/attempts.js';
import type { AttemptFilter } from '../projections/attempts-query.js';
import type { ComplianceRecord } from '../projections/compliance.js';
import type { Bucket } from '../projections/dashboard-query.js';
import type { DeliveryRow } from '../projections/deliveries.js';
import type { DeliveryFilter } from '../projections/delivery-entity.js';
import type { LegFilter, SlaFilter } from '../projections/legs-query.js';
import type { PageArgs } from '../projections/page.js';
import type { Moment, Past } from '../projections/past.js';
import { NotInStep } from '../projections/past-dashboard.js';
import type { PerformanceQueries } from '../projections/performance-query.js';
import type { ReadSide } from '../projections/read-side.js';
import type { Rebuild } from '../projections/runner/member.js';
import { NotParked, type Skip } from '../projections/runner/parking.js';
import {
  RebuildConflict,
  type RebuildOptions,
  RebuildUnavailable,
  UnknownProjection,
} from '../projections/runner/rebuild.js';
import type { DeliveryPresenter, PresentedDelivery } from './delivery-presenter.js';
import { ApiError, badInput, explained } from './errors.js';
import { presentRebuild, presentStatus } from './projection-presenter.js';
import { ReadYourWrites } from './read-your-writes.js';
import type { RequestContext } from './request-context.js';
import type { SealedRows } from './sealed-rows.js';
import { streamOf } from './stream-of.js';

/** Where the log ends now, and where it ended when this process began. */
export interface LogHead {
  readonly head: () => Promise<bigint>;
  readonly atStart: bigint;
}

/**
 * The read models as the API shows them. A query waits until they hold the caller's own newest write, up to a bound;
 * `asOf` says how far they really were.
 */
export class ReadModels {
  readonly #reads: ReadSide;
  readonly #rows: SealedRows;
  readonly #presenter: DeliveryPresenter;
  readonly #head: () => Promise<bigint>;
  readonly #patienceMs: number;
  readonly #writes: ReadYourWrites;

  constructor(reads: ReadSide, rows: SealedRows, presenter: DeliveryPresenter, log: LogHead, patienceMs: number) {
    this.#reads = reads;
    this.#rows = rows;
    this.#presenter = presenter;
    this.#head = log.head;
    this.#writes = new ReadYourWrites(log.atStart);
    this.#patienceMs = patienceMs;
  }

  wrote({ principal }: RequestContext, position: bigint | undefined): void {
    this.#writes.wrote(principal, position);
  }

  async delivery(context: RequestContext, id: string): Promise<PresentedDelivery | undefined> {
    await this.#caughtUp(context);
    const asOf = this.#reads.projections.position('deliveries');
    const found = await this.#reads.deliveries.find(id, context.principal.organizations);
    const [row] = await this.#rows.deliveries(found ? [found] : []);
    return row && this.#presenter.fromRow(row, asOf, async () => (await this.#attempts([id], context))[0]);
  }

  async deliveries(context: RequestContext, filter: DeliveryFilter, asked: PageArgs) {
    await this.#caughtUp(context);
    const { organizations } = context.principal;
    const asOf = this.#reads.projections.position('deliveries');
    const page = await refusing(this.#reads.deliveries.list(filter, organizations, asked));
    // All attempts of the page in one query, when the first of its deliveries is asked for them.
    let attempts: Promise<AttemptRow[][]> | undefined;
    const rows = await this.#rows.deliveries(page.edges.map(({ node }) => node));
    const ids = rows.map(({ id }) => id);
    const attemptsOf = async (index: number) => {
      attempts ??= this.#attempts(ids, context);
      return (await attempts)[index];
    };
    return {
      ...page,
      edges: page.edges.map(({ cursor }, index) => ({
        cursor,
        node: this.#presenter.fromRow(rows[index] as DeliveryRow, asOf, () => attemptsOf(index)),
      })),
    };
  }

  /** The list as it was at a moment of the past: it stays the same however often it is asked for. */
  async pastDeliveries(context: RequestContext, moment: Moment, filter: DeliveryFilter, asked: PageArgs) {
    const past = await this.#past(moment);
    const { organizations } = context.principal;
    const page = await refusing(this.#reads.past.deliveries.list(past, filter, organizations, asked));
    const rows = await this.#rows.deliveries(page.edges.map(({ node }) => node.row));
    const attemptsOf = async (index: number) =>
      (await this.#rows.attempts([[...(page.edges[index] as (typeof page.edges)[number]).node.attempts]]))[0];
    return {
      edges: page.edges.map(({ cursor }, index) => {
        const row = rows[index] as DeliveryRow;
        return { cursor, node: this.#presenter.fromRow(row, BigInt(row.position), () => attemptsOf(index)) };
      }),
      pageInfo: {
        hasNextPage: page.hasNextPage,
        hasPreviousPage: Boolean(asked.after),
        startCursor: page.edges[0]?.cursor ?? null,
        endCursor: page.endCursor,
      },
      totalCount: null,
    };
  }

  async attemptsInDoubt(context: RequestContext, organizations: Organizations, asked: PageArgs) {
    await this.#caughtUp(context);
    return await refusing(this.#reads.attemptsInDoubt.list(organizations, asked));
  }

  async suppressions(
    context: RequestContext,
    organizations: Organizations,
    channel: Channel | undefined,
    asked: PageArgs,
  ) {
    await this.#caughtUp(context);
    const page = await refusing(this.#reads.suppressions.list(organizations, channel, asked));
    const rows = await this.#rows.suppressions(page.edges.map(({ node }) => node));
    return { ...page, edges: page.edges.map((edge, index) => ({ ...edge, node: rows[index] })) };
  }

  /** A person's entries on the suppression list, released ones too. */
  async suppressionsOf(context: RequestContext, organizations: Organizations, subject: string) {
    await this.#caughtUp(context);
    return await this.#rows.suppressions(await this.#reads.suppressions.some(organizations, entriesOf(subject)));
  }

  async destination(context: RequestContext, id: string) {
    await this.#caughtUp(context);
    const found = await this.#reads.destinations.find(id, context.principal.organizations);
    return (await this.#rows.destinations(found ? [found] : []))[0];
  }

  async destinations(context: RequestContext, organizations: Organizations, type: Channel | undefined) {
    await this.#caughtUp(context);
    return await this.#rows.destinations(await this.#reads.destinations.list(organizations, type));
  }

  /** Deliveries to a person that have not ended, as far as the read models know within the bound of their patience. */
  async openDeliveriesOf(subject: string, organizationId: string): Promise<string[]> {
    await this.#reads.projections.waitFor(await this.#head(), this.#patienceMs);
    return await this.#reads.deliveries.openOf(subject, organizationId);
  }

  /** Where an organization's deliveries go when they name no target, all changes made so far included. */
  async defaultDestinations(organizationId: string): Promise<string[]> {
    if (!(await this.#reads.projections.waitFor(await this.#head(), this.#patienceMs)))
      throw new ApiError(
        'UNAVAILABLE',
        'the read models are behind, so the default destinations are not known; try again',
      );
    return (await this.#reads.destinations.defaultsOf(organizationId)).map(({ id }) => id);
  }

  async dashboard(context: RequestContext, organizations: Organizations, from: Date, to: Date, bucket: Bucket) {
    await this.#caughtUp(context);
    return await this.#reads.dashboard.dashboard(organizations, from, to, bucket);
  }

  async pastDashboard(moment: Moment, organizations: Organizations, from: Date, to: Date, bucket: Bucket) {
    const past = await this.#past(moment);
    return await refusing(this.#reads.past.dashboard.dashboard(past, organizations, from, to, bucket));
  }

  async attempts(context: RequestContext, filter: AttemptFilter, asked: PageArgs) {
    await this.#caughtUp(context);
    const page = await refusing(this.#reads.attempts.list(filter, context.principal.organizations, asked));
    const [rows = []] = await this.#rows.attempts([page.edges.map(({ node }) => node)]);
    return {
      ...page,
      edges: page.edges.map(({ cursor }, index) => ({ cursor, node: rows[index] as AttemptRow })),
    };
  }

  /** What compliance officers ask, of each delivery of a page; found out from the log. */
  async compliance(context: RequestContext, filter: DeliveryFilter, asked: PageArgs) {
    await this.#caughtUp(context);
    const page = await refusing(this.#reads.deliveries.list(filter, context.principal.organizations, asked));
    const records = await this.#presenter.compliance(page.edges.map(({ node }) => node.id));
    return {
      ...page,
      edges: page.edges.map(({ cursor }, index) => ({ cursor, node: records[index] as ComplianceRecord })),
    };
  }

  async legs(context: RequestContext, filter: LegFilter, asked: PageArgs) {
    await this.#caughtUp(context);
    return await refusing(this.#reads.legs.list(filter, context.principal.organizations, asked));
  }

  async slaLegs(context: RequestContext, filter: SlaFilter, asked: PageArgs) {
    await this.#caughtUp(context);
    return await refusing(this.#reads.legs.sla(filter, context.principal.organizations, asked));
  }

  /** @param what which aggregate of a span of time */
  async performance<What extends 'sla' | 'providers' | 'deliveries' | 'engagement'>(
    context: RequestContext,
    what: What,
    organizations: Organizations,
    span: { readonly from: Date; readonly to: Date },
  ): Promise<Awaited<ReturnType<PerformanceQueries[What]>>> {
    await this.#caughtUp(context);
    return (await this.#reads.performance[what](organizations, span)) as Awaited<ReturnType<PerformanceQueries[What]>>;
  }

  async projections() {
    return (await this.#reads.projections.status()).map(presentStatus);
  }

  rebuild(name: string, options: RebuildOptions) {
    return ordered(this.#reads.projections.orders.rebuild(name, options));
  }

  async rebuildAll(names: readonly string[] | undefined, options: RebuildOptions) {
    return (await carriedOut(this.#reads.projections.orders.rebuildAll(names, options))).map(presentRebuild);
  }

  /** @returns how many events */
  retryParked(name: string): Promise<number> {
    return carriedOut(this.#reads.projections.orders.retryParked(name));
  }

  async skipParked(name: string, skip: Skip): Promise<true> {
    await carriedOut(this.#reads.projections.orders.skipParked(name, skip));
    return true;
  }

  parkedEvents(name: string, first: number, after: bigint | undefined) {
    return this.#reads.parked.list(name, first, after);
  }

  cancelRebuild(name: string) {
    return ordered(this.#reads.projections.orders.cancelRebuild(name));
  }

  /** Deliveries of these organizations as they change, from now on. */
  updates(organizations: Organizations, id: string | undefined) {
    if (id !== undefined && !isUuid(id)) throw badInput([{ path: 'id', problem: 'is not the id of a delivery' }]);
    const changes = this.#reads.projections.changes(
      (change) => (id === undefined || change.id === id) && mayAccess(organizations, change.organizationId),
    );
    return streamOf(changes, async (changed) => {
      const asOf = this.#reads.projections.position('deliveries');
      const ids = changed.map((change) => change.id);
      const rows = await this.#rows.deliveries(await this.#reads.deliveries.findMany(ids, organizations));
      const attemptsOf = async (row: { id: string }) =>
        (await this.#rows.attempts(await this.#reads.attempts.ofDeliveries([row.id], organizations)))[0];
      return rows.map((row) => ({ deliveryUpdated: this.#presenter.fromRow(row, asOf, () => attemptsOf(row)) }));
    });
  }

  rebuildProgress(name: string | undefined) {
    return streamOf(this.#reads.projections.rebuilds(), (rebuilds) =>
      rebuilds
        .filter((rebuild) => name === undefined || rebuild.name === name)
        .map((rebuild) => ({ projectionProgress: presentRebuild(rebuild) })),
    );
  }

  async #past(moment: Moment): Promise<Past> {
    const past = await refusing(this.#reads.past.of(moment));
    if (!(await this.#reads.projections.waitFor(past.needs, this.#patienceMs)))
      throw new ApiError('UNAVAILABLE', 'the read models have not come as far as that yet; try again');
    return past;
  }

  async #attempts(ids: readonly string[], { principal }: RequestContext): Promise<AttemptRow[][]> {
    return await this.#rows.attempts(await this.#reads.attempts.ofDeliveries(ids, principal.organizations));
  }

  async #caughtUp({ principal }: RequestContext): Promise<void> {
    await this.#reads.projections.waitFor(this.#writes.newestOf(principal), this.#patienceMs);
  }
}

/** A rebuild that somebody has asked for. */
const ordered = async (rebuild: Promise<Rebuild>) => presentRebuild(await carriedOut(rebuild));

async function carriedOut<Answer>(order: Promise<Answer>): Promise<Answer> {
  try {
    return await order;
  } catch (error) {
    if (error instanceof NotParked) throw new ApiError('NOT_FOUND', error.message);
    if (error instanceof UnknownProjection) throw new ApiError('NOT_FOUND', error.message);
    if (error instanceof RebuildConflict) throw new ApiError('CONFLICT', error.message);
    if (error instanceof RebuildUnavailable) throw new ApiError('UNAVAILABLE', `${error.message}; try again`);
    throw error;
  }
}

export async function refusing<Result>(query: Promise<Result>): Promise<Result> {
  try {
    return await query;
  } catch (error) {
    if (error instanceof NotInStep) throw new ApiError('UNAVAILABLE', `${error.message}; try again`);
    throw explained(error);
  }
}
