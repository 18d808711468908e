import { UseFilters } from '@nestjs/common';
import { Args, Context, Query, Resolver } from '@nestjs/graphql';
import type { AttemptFilter } from '../projections/attempts-query.js';
import type { LegFilter } from '../projections/legs-query.js';
import type { PageArgs } from '../projections/page.js';
import { badInput } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { type RequestContext, scopeOf } from './request-context.js';
import { inOrder, type RowOrder } from './row-order.js';

/** Aggregates over more than a year of every leg are work for an analyst's own query. */
const MAX_SPAN_MS = 366 * 86_400_000;

type Filtered<Filter> = PageArgs & { readonly filter?: Filter | null };

interface SlaArgs extends PageArgs, Pick<LegFilter, 'organizationId' | 'channel' | 'priority'> {
  readonly what: 'BREACHED' | 'AT_RISK';
  readonly withinSeconds: number;
}

interface SpanArgs {
  readonly from: Date;
  readonly to: Date;
  readonly organizationId?: string | null;
  readonly orderBy?: readonly RowOrder[] | null;
}

/** How well deliveries, destinations and providers do. */
@Resolver()
@UseFilters(PassErrorsOn)
export class PerformanceResolver {
  constructor(private readonly reads: ReadModels) {}

  @Query()
  attempts(@Context() context: RequestContext, @Args() { filter, ...page }: Filtered<AttemptFilter>) {
    return this.reads.attempts(context, filter ?? {}, page);
  }

  @Query()
  legs(@Context() context: RequestContext, @Args() { filter, ...page }: Filtered<LegFilter>) {
    return this.reads.legs(context, filter ?? {}, page);
  }

  @Query()
  deadLetters(@Context() context: RequestContext, @Args() { filter, ...page }: Filtered<LegFilter>) {
    return this.reads.legs(context, { ...filter, deadLettered: true }, page);
  }

  @Query()
  slaLegs(@Context() context: RequestContext, @Args() { what, withinSeconds, ...rest }: SlaArgs) {
    if (withinSeconds < 0) throw badInput([{ path: 'withinSeconds', problem: 'must not be negative' }]);
    const { organizationId = null, channel = null, priority = null, ...page } = rest;
    const restriction = { organizationId, channel, priority };
    const filter = { what: what === 'BREACHED' ? 'breached' : 'at-risk', withinSeconds, ...restriction } as const;
    return this.reads.slaLegs(context, filter, page);
  }

  @Query()
  sla(@Context() context: RequestContext, @Args() asked: SpanArgs) {
    return this.#ofSpan(context, 'sla', asked);
  }

  @Query()
  providerPerformance(@Context() context: RequestContext, @Args() asked: SpanArgs) {
    return this.#ofSpan(context, 'providers', asked);
  }

  @Query()
  engagement(@Context() context: RequestContext, @Args() asked: SpanArgs) {
    return this.#ofSpan(context, 'engagement', asked);
  }

  @Query()
  deliveryPerformance(@Context() context: RequestContext, @Args() asked: SpanArgs) {
    return this.#ofSpan(context, 'deliveries', asked);
  }

  #ofSpan(
    context: RequestContext,
    what: 'sla' | 'providers' | 'engagement' | 'deliveries',
    { from, to, organizationId, orderBy }: SpanArgs,
  ) {
    const [scope, within] = [scopeOf(context, organizationId), span(from, to)];
    return inOrder<object>(orderBy, () => this.reads.performance(context, what, scope, within));
  }
}

function span(from: Date, to: Date): { from: Date; to: Date } {
  if (from >= to) throw badInput([{ path: 'to', problem: 'must be after from' }]);
  if (to.getTime() - from.getTime() > MAX_SPAN_MS)
    throw badInput([{ path: 'to', problem: 'must be at most 366 days after from' }]);
  return { from, to };
}
