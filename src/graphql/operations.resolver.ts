import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import { Deliveries } from '../commands/deliveries.js';
import { type Intervened, SuspendedDeliveries } from '../commands/suspended-deliveries.js';
import { isUuid } from '../domain/vocabulary.js';
import { type List, type PageArgs, Paging } from '../projections/page.js';
import { DeliveryPresenter, type PresentedDelivery } from './delivery-presenter.js';
import { ApiError, badInput, understood, unwrap } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { accessOf, type RequestContext, scopeOf } from './request-context.js';

const SUSPENDED: List = { name: 'suspended', order: 'OLDEST_FIRST' };
const MAX_TEXT = 1_000;

/** What does not go on by itself, and the people who see to it. */
@Resolver()
@UseFilters(PassErrorsOn)
export class OperationsResolver {
  constructor(
    private readonly deliveries: Deliveries,
    private readonly suspended: SuspendedDeliveries,
    private readonly presenter: DeliveryPresenter,
    private readonly reads: ReadModels,
  ) {}

  @Query()
  attemptsInDoubt(
    @Context() context: RequestContext,
    @Args() { organizationId, ...page }: PageArgs & { readonly organizationId?: string | null },
  ) {
    return this.reads.attemptsInDoubt(context, scopeOf(context, organizationId), page);
  }

  @Mutation()
  async resolveAttempt(
    @Context() context: RequestContext,
    @Args('id') id: string,
    @Args('outcome') outcome: 'SENT' | 'NOT_SENT',
    @Args('note') note?: string | null,
  ): Promise<PresentedDelivery> {
    const finding = {
      outcome: outcome === 'SENT' ? 'sent' : 'not-sent',
      ...(note && { note: bounded(note, 'note') }),
    } as const;
    const resolved = unwrap(await this.deliveries.resolveAttempt(id, finding, requesterOf(context), accessOf(context)));
    this.reads.wrote(context, resolved.position);
    return await this.presenter.fromCommand(resolved);
  }

  @Query()
  async suspendedDeliveries(@Args() page: PageArgs) {
    const paging = understood(() => new Paging(SUSPENDED, page, 'all'));
    const { list } = this.suspended;
    const direction = paging.order === 'NEWEST_FIRST' ? 'desc' : 'asc';
    return paging.pageOf(
      await list.list(paging.size + 1, direction, paging.after),
      ({ suspendedAt, id, organizationId }) => ({ at: suspendedAt, id, organizationId }),
      () => list.count(),
    );
  }

  @Mutation()
  resumeDelivery(@Context() context: RequestContext, @Args('id') id: string, @Args('reason') reason: string) {
    return this.#intervene(context, id, reason, 'resume');
  }

  @Mutation()
  skipSuspendedEvent(@Context() context: RequestContext, @Args('id') id: string, @Args('reason') reason: string) {
    return this.#intervene(context, id, reason, 'skip');
  }

  async #intervene(context: RequestContext, id: string, text: string, how: 'resume' | 'skip'): Promise<true> {
    const reason = bounded(text, 'reason');
    if (reason.trim() === '') throw badInput([{ path: 'reason', problem: 'must not be empty' }]);
    if (!isUuid(id)) throw new ApiError('NOT_FOUND', 'there is no such delivery');
    const done: Intervened = await this.suspended[how](id.toLowerCase(), { ...requesterOf(context), reason });
    this.reads.wrote(context, unwrap(done).position);
    return true;
  }
}

function bounded(text: string, path: string): string {
  if (text.length > MAX_TEXT) throw badInput([{ path, problem: `must have at most ${MAX_TEXT} characters` }]);
  return text;
}

const requesterOf = ({ principal, traceparent }: RequestContext) => ({
  actor: principal.actor,
  ...(traceparent !== undefined && { traceparent }),
});
