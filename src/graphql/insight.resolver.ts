import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver, Subscription } from '@nestjs/graphql';
import { badInput } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { type RequestContext, scopeOf } from './request-context.js';

const BUCKETS = ['hour', 'day', 'week', 'month'] as const;
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
  ) {
    if (from >= to) throw badInput([{ path: 'to', problem: 'must be after from' }]);
    if (!BUCKETS.includes(bucket))
      throw badInput([{ path: 'bucket', problem: `must be one of ${BUCKETS.join(', ')}` }]);
    return await this.reads.dashboard(context, scopeOf(context, organizationId), from, to, bucket);
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
  rollbackProjection(@Args('name') name: string) {
    return this.reads.rebuild(name, { kind: 'rollback' });
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
