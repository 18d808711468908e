import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver, Subscription } from '@nestjs/graphql';
import { DataSubjects, type Recipient } from '../commands/data-subjects.js';
import { Deliveries } from '../commands/deliveries.js';
import type { RequestDeliveryInput } from '../commands/delivery-input.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import { instantNow } from '../domain/instant.js';
import { isUuid } from '../domain/vocabulary.js';
import type { DeliveryFilter } from '../projections/delivery-entity.js';
import type { PageArgs } from '../projections/page.js';
import { type AsOf, momentOf } from './as-of.js';
import { DeliveryPresenter, type PresentedDelivery } from './delivery-presenter.js';
import { ApiError, badInput, unwrap } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { accessOf, organizationFor, type RequestContext, requestFor, scopeOf } from './request-context.js';

const MAX_BULK = 1_000;

interface Filter {
  readonly organizationId?: string | null;
  readonly recipient?: Recipient | null;
  readonly [name: string]: unknown;
}

interface ListArgs extends PageArgs {
  readonly filter?: Filter | null;
  readonly asOf?: AsOf | null;
}

@Resolver('Delivery')
@UseFilters(PassErrorsOn)
export class DeliveryResolver {
  constructor(
    private readonly deliveries: Deliveries,
    private readonly subjects: DataSubjects,
    private readonly presenter: DeliveryPresenter,
    private readonly reads: ReadModels,
  ) {}

  @Mutation()
  async requestDelivery(@Context() context: RequestContext, @Args('input') input: RequestDeliveryInput) {
    const accepted = unwrap(await this.deliveries.request(requestFor(context, input, 'organizationId')));
    this.reads.wrote(context, accepted.position);
    return { delivery: await this.presenter.fromCommand(accepted), replayed: accepted.replayed };
  }

  @Mutation()
  async requestDeliveries(
    @Context() context: RequestContext,
    @Args('inputs') inputs: readonly RequestDeliveryInput[],
    @Args('idempotencyKey') key?: string | null,
  ) {
    if (inputs.length > MAX_BULK) throw badInput([{ path: 'inputs', problem: `must not be more than ${MAX_BULK}` }]);
    if (key !== null && key !== undefined && (key.length < 1 || key.length > 255))
      throw badInput([{ path: 'idempotencyKey', problem: 'must have from 1 to 255 characters' }]);
    const requests = inputs.map((input, index) => requestFor(context, input, `inputs.${index}.organizationId`));
    const results = await this.deliveries.requestMany(requests, key ?? undefined);
    if (!Array.isArray(results)) throw unwrap(results);
    return Promise.all(
      results.map(async (result) => {
        const accepted = unwrap(result);
        this.reads.wrote(context, accepted.position);
        return { delivery: await this.presenter.fromCommand(accepted), replayed: accepted.replayed };
      }),
    );
  }

  @Mutation()
  approveDelivery(
    @Context() context: RequestContext,
    @Args('id') id: string,
    @Args('comment') comment?: string | null,
  ) {
    const { actor: approver } = context.principal;
    return this.#change(context, id, { type: 'Approve', now: instantNow(), approver, ...(comment && { comment }) });
  }

  @Mutation()
  rejectDelivery(@Context() context: RequestContext, @Args('id') id: string, @Args('reason') reason: string) {
    if (reason.trim() === '') throw badInput([{ path: 'reason', problem: 'must not be empty' }]);
    return this.#change(context, id, { type: 'Reject', now: instantNow(), approver: context.principal.actor, reason });
  }

  @Mutation()
  cancelDelivery(@Context() context: RequestContext, @Args('id') id: string, @Args('reason') reason?: string | null) {
    return this.#change(context, id, {
      type: 'Cancel',
      now: instantNow(),
      by: context.principal.actor,
      ...(reason && { reason }),
    });
  }

  @Mutation()
  retryDelivery(@Context() context: RequestContext, @Args('id') id: string) {
    return this.#change(context, id, { type: 'Retry', now: instantNow(), by: context.principal.actor });
  }

  @Query()
  async delivery(@Context() context: RequestContext, @Args('id') id: string): Promise<PresentedDelivery | undefined> {
    return isUuid(id) ? await this.reads.delivery(context, id.toLowerCase()) : undefined;
  }

  @Query()
  async deliveryAsOf(
    @Context() context: RequestContext,
    @Args('id') id: string,
    @Args('at') at?: Date | null,
    @Args('position') position?: bigint | null,
  ): Promise<PresentedDelivery | undefined> {
    const hasAt = at !== null && at !== undefined;
    const hasPosition = position !== null && position !== undefined;
    if (hasAt === hasPosition) throw badInput([{ path: 'at', problem: 'give either at or position' }]);
    if (!isUuid(id)) return undefined;
    const then = await this.presenter.fromLog(id.toLowerCase(), (event) =>
      hasPosition ? event.position <= position : event.created <= (at as Date).toISOString(),
    );
    return then && accessOf(context)(then.organizationId) ? then : undefined;
  }

  @Query('deliveries')
  async list(@Context() context: RequestContext, @Args() { filter, asOf, ...page }: ListArgs) {
    const named = this.#named(context, filter ?? {});
    return asOf
      ? await this.reads.pastDeliveries(context, momentOf(asOf), named, page)
      : await this.reads.deliveries(context, named, page);
  }

  @Query()
  complianceReport(@Context() context: RequestContext, @Args() { filter, ...page }: ListArgs) {
    return this.reads.compliance(context, this.#named(context, filter ?? {}), page);
  }

  @Subscription()
  deliveryUpdated(
    @Context() context: RequestContext,
    @Args('id') id?: string | null,
    @Args('organizationId') organizationId?: string | null,
  ) {
    return this.reads.updates(scopeOf(context, organizationId), id?.toLowerCase());
  }

  /** A person is looked for by name: read models have no addresses. */
  #named(context: RequestContext, { recipient, ...filter }: Filter): DeliveryFilter {
    if (!recipient) return filter;
    const organizationId = organizationFor(context, filter.organizationId, 'filter.organizationId');
    return { ...filter, organizationId, subject: unwrap(this.subjects.find(recipient, organizationId)).subject };
  }

  async #change(context: RequestContext, id: string, command: DeliveryCommand): Promise<PresentedDelivery> {
    if (!isUuid(id)) throw new ApiError('NOT_FOUND', 'there is no such delivery');
    const { actor } = context.principal;
    const requester = { actor, ...(context.traceparent !== undefined && { traceparent: context.traceparent }) };
    const changed = unwrap(await this.deliveries.change(id.toLowerCase(), command, requester, accessOf(context)));
    this.reads.wrote(context, changed.position);
    return await this.presenter.fromCommand(changed);
  }
}
