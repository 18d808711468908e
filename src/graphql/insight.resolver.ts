import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver, Subscription } from '@nestjs/graphql';
import { type AsOf, momentOf } from './as-of.js';
import { badInput } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { type RequestContext, scopeOf } from './request-context.js';
import { inOrder, type RowOrder } from './row-order.js';

const BUCKETS = ['hour', 'day', 'week', 'month'] as const;
const MAX_PAGE = 200;
const MAX_TEXT = 1_000;
export type Bucket = (typeof BUCKETS)[number];

/** What analysts and operators look at: the dashboard, and how far the read models are. */
@Resolver()
@UseFilters(PassErrorsOn)
export class InsightResolver {
  constructor(private readonly reads: ReadModels) {}

  @Query()
  async dashboard(
    @Context() context: RequestContext,
    @Args('from') from: Date,
    @Args('to') to: Date,
    @Args('bucket') bucket: Bucket,
    @Args('organizationId') organizationId?: string | null,
    @Args('asOf') asOf?: AsOf | null,
    @Args('orderBy') orderBy?: readonly RowOrder[] | null,
  ) {
    if (from >= to) throw badInput([{ path: 'to', problem: 'must be after from' }]);
    if (!BUCKETS.includes(bucket))
      throw badInput([{ path: 'bucket', problem: `must be one of ${BUCKETS.join(', ')}` }]);
    const scope = scopeOf(context, organizationId);
    const moment = asOf ? momentOf(asOf) : undefined;
    return await inOrder(orderBy, () =>
      moment
        ? this.reads.pastDashboard(moment, scope, from, to, bucket)
        : this.reads.dashboard(context, scope, from, to, bucket),
    );
  }

  @Query()
  projections() {
    return this.reads.projections();
  }

  @Mutation()
  rebuildProjection(@Args('name') name: string, @Args('eventsPerSecond') eventsPerSecond?: number | null) {
    return this.reads.rebuild(name, { eventsPerSecond: rate(eventsPerSecond) });
  }

  @Mutation()
  verifyProjection(@Args('name') name: string, @Args('eventsPerSecond') eventsPerSecond?: number | null) {
    return this.reads.rebuild(name, { kind: 'verify', eventsPerSecond: rate(eventsPerSecond) });
  }

  @Mutation()
  rebuildProjections(
    @Args('names') names?: string[] | null,
    @Args('verifyOnly') verifyOnly?: boolean | null,
    @Args('eventsPerSecond') eventsPerSecond?: number | null,
  ) {
    if (names?.length === 0) throw badInput([{ path: 'names', problem: 'must have at least one name' }]);
    const kind = verifyOnly ? 'verify' : 'rebuild';
    return this.reads.rebuildAll(names ?? undefined, { kind, eventsPerSecond: rate(eventsPerSecond) });
  }

  @Mutation()
  rollbackProjection(@Args('name') name: string) {
    return this.reads.rebuild(name, { kind: 'rollback' });
  }

  /** In the order of the log. */
  @Query()
  parkedEvents(
    @Args('projection') projection: string,
    @Args('first') first?: number | null,
    @Args('after') after?: bigint | null,
  ) {
    const size = first ?? 50;
    if (size < 1 || size > MAX_PAGE) throw badInput([{ path: 'first', problem: `must be from 1 to ${MAX_PAGE}` }]);
    return this.reads.parkedEvents(projection, size, after ?? undefined);
  }

  @Mutation()
  retryParked(@Args('projection') projection: string) {
    return this.reads.retryParked(projection);
  }

  @Mutation()
  skipParked(
    @Context() { principal }: RequestContext,
    @Args('projection') projection: string,
    @Args('position') position: bigint,
    @Args('reason') reason: string,
  ) {
    if (reason.trim() === '') throw badInput([{ path: 'reason', problem: 'must not be empty' }]);
    if (reason.length > MAX_TEXT)
      throw badInput([{ path: 'reason', problem: `must have at most ${MAX_TEXT} characters` }]);
    return this.reads.skipParked(projection, { position, by: principal.actor, reason });
  }

  @Mutation()
  cancelRebuild(@Args('name') name: string) {
    return this.reads.cancelRebuild(name);
  }

  @Subscription()
  projectionProgress(@Args('name') name?: string | null) {
    return this.reads.rebuildProgress(name ?? undefined);
  }
}

function rate(eventsPerSecond: number | null | undefined): number | null {
  if (eventsPerSecond === null || eventsPerSecond === undefined) return null;
  if (eventsPerSecond < 1) throw badInput([{ path: 'eventsPerSecond', problem: 'must be at least 1' }]);
  return eventsPerSecond;
}
