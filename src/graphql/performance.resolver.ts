import { UseFilters } from '@nestjs/common';
import { Args, Context, Query, Resolver } from '@nestjs/graphql';
import type { Channel, Priority } from '../domain/vocabulary.js';
import type { AttemptFilter } from '../projections/attempts-query.js';
import type { LegFilter } from '../projections/legs-query.js';
import { badInput } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { type RequestContext, scopeOf } from './request-context.js';

const MAX_PAGE = 200;
/** Aggregates over more than a year of every leg are work for an analyst's own query. */
const MAX_SPAN_MS = 366 * 86_400_000;

/** How well deliveries, destinations and providers do. */
@Resolver()
@UseFilters(PassErrorsOn)
export class PerformanceResolver {
  constructor(private readonly reads: ReadModels) {}

  @Query()
  attempts(
    @Context() context: RequestContext,
    @Args('filter') filter?: AttemptFilter | null,
    @Args('first') first?: number | null,
    @Args('after') after?: string | null,
  ) {
    return this.reads.attempts(context, filter ?? {}, pageSize(first), after ?? undefined);
  }

  @Query()
  legs(
    @Context() context: RequestContext,
    @Args('filter') filter?: LegFilter | null,
    @Args('first') first?: number | null,
    @Args('after') after?: string | null,
  ) {
    return this.reads.legs(context, filter ?? {}, pageSize(first), after ?? undefined);
  }

  @Query()
  deadLetters(
    @Context() context: RequestContext,
    @Args('filter') filter?: LegFilter | null,
    @Args('first') first?: number | null,
    @Args('after') after?: string | null,
  ) {
    return this.reads.legs(context, { ...filter, deadLettered: true }, pageSize(first), after ?? undefined);
  }

  @Query()
  slaLegs(
    @Context() context: RequestContext,
    @Args('what') what: 'BREACHED' | 'AT_RISK',
    @Args('withinSeconds') withinSeconds: number,
    @Args('organizationId') organizationId?: string | null,
    @Args('channel') channel?: Channel | null,
    @Args('priority') priority?: Priority | null,
    @Args('first') first?: number | null,
    @Args('after') after?: string | null,
  ) {
    if (withinSeconds < 0) throw badInput([{ path: 'withinSeconds', problem: 'must not be negative' }]);
    const restriction = {
      organizationId: organizationId ?? null,
      channel: channel ?? null,
      priority: priority ?? null,
    };
    const filter = { what: what === 'BREACHED' ? 'breached' : 'at-risk', withinSeconds, ...restriction } as const;
    return this.reads.slaLegs(context, filter, pageSize(first), after ?? undefined);
  }

  @Query()
  sla(
    @Context() context: RequestContext,
    @Args('from') from: Date,
    @Args('to') to: Date,
    @Args('organizationId') organizationId?: string | null,
  ) {
    return this.reads.performance(context, 'sla', scopeOf(context, organizationId), span(from, to));
  }

  @Query()
  providerPerformance(
    @Context() context: RequestContext,
    @Args('from') from: Date,
    @Args('to') to: Date,
    @Args('organizationId') organizationId?: string | null,
  ) {
    return this.reads.performance(context, 'providers', scopeOf(context, organizationId), span(from, to));
  }

  @Query()
  engagement(
    @Context() context: RequestContext,
    @Args('from') from: Date,
    @Args('to') to: Date,
    @Args('organizationId') organizationId?: string | null,
  ) {
    return this.reads.performance(context, 'engagement', scopeOf(context, organizationId), span(from, to));
  }

  @Query()
  deliveryPerformance(
    @Context() context: RequestContext,
    @Args('from') from: Date,
    @Args('to') to: Date,
    @Args('organizationId') organizationId?: string | null,
  ) {
    return this.reads.performance(context, 'deliveries', scopeOf(context, organizationId), span(from, to));
  }
}

function span(from: Date, to: Date): { from: Date; to: Date } {
  if (from >= to) throw badInput([{ path: 'to', problem: 'must be after from' }]);
  if (to.getTime() - from.getTime() > MAX_SPAN_MS)
    throw badInput([{ path: 'to', problem: 'must be at most 366 days after from' }]);
  return { from, to };
}

function pageSize(first: number | null | undefined): number {
  const size = first ?? 50;
  if (size < 1 || size > MAX_PAGE) throw badInput([{ path: 'first', problem: `must be from 1 to ${MAX_PAGE}` }]);
  return size;
}
