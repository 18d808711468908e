import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import { Deliveries } from '../commands/deliveries.js';
import { isUuid } from '../commands/ids.js';
import { type Intervened, SuspendedDeliveries, type Suspension } from '../commands/suspended-deliveries.js';
import { DeliveryPresenter, type PresentedDelivery } from './delivery-presenter.js';
import { ApiError, badInput, unwrap } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { accessOf, type RequestContext, scopeOf } from './request-context.js';

const MAX_PAGE = 200;
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
    @Args('organizationId') organizationId?: string | null,
    @Args('first') first?: number | null,
    @Args('after') after?: string | null,
  ) {
    return this.reads.attemptsInDoubt(context, scopeOf(context, organizationId), pageSize(first), after ?? undefined);
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
  async suspendedDeliveries(@Args('first') first?: number | null, @Args('after') after?: string | null) {
    const size = pageSize(first);
    const { list } = this.suspended;
    const found = await list.list(size + 1, after ? cursorParts(after) : undefined);
    const edges = found.slice(0, size).map((node) => ({ cursor: cursorOf(node), node }));
    return {
      edges,
      pageInfo: {
        hasNextPage: found.length > size,
        hasPreviousPage: Boolean(after),
        startCursor: edges[0]?.cursor ?? null,
        endCursor: edges.at(-1)?.cursor ?? null,
      },
      totalCount: () => list.count(),
    };
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

function pageSize(first: number | null | undefined): number {
  const size = first ?? 50;
  if (size < 1 || size > MAX_PAGE) throw badInput([{ path: 'first', problem: `must be from 1 to ${MAX_PAGE}` }]);
  return size;
}

function bounded(text: string, path: string): string {
  if (text.length > MAX_TEXT) throw badInput([{ path, problem: `must have at most ${MAX_TEXT} characters` }]);
  return text;
}

const requesterOf = ({ principal, traceparent }: RequestContext) => ({
  actor: principal.actor,
  ...(traceparent !== undefined && { traceparent }),
});

const cursorOf = ({ suspendedAt, id }: Suspension): string => Buffer.from(`${suspendedAt} ${id}`).toString('base64url');

function cursorParts(cursor: string): Pick<Suspension, 'suspendedAt' | 'id'> {
  const [suspendedAt = '', id = '', ...rest] = Buffer.from(cursor, 'base64url').toString().split(' ');
  const isTime = /^\d{4}-\d\d-\d\dT[\d:.]+Z$/.test(suspendedAt) && !Number.isNaN(Date.parse(suspendedAt));
  if (!isTime || !isUuid(id) || rest.length > 0)
    throw badInput([{ path: 'after', problem: 'is not a cursor of this list' }]);
  return { suspendedAt, id };
}
