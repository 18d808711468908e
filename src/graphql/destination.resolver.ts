import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import type { SigningKind } from '../commands/channel-catalog.js';
import { type ChangedDestination, type DestinationInput, Destinations } from '../commands/destinations.js';
import { type Channel, isUuid, type Json, type JsonObject, type StatusEvent } from '../domain/vocabulary.js';
import { ConnectionTester } from './connection-tester.js';
import { ApiError, unwrap } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { accessOf, organizationFor, type RequestContext, requesterFor, scopeOf } from './request-context.js';

@Resolver('Destination')
@UseFilters(PassErrorsOn)
export class DestinationResolver {
  constructor(
    private readonly destinations: Destinations,
    private readonly tester: ConnectionTester,
    private readonly reads: ReadModels,
  ) {}

  @Mutation()
  async createDestination(
    @Context() context: RequestContext,
    @Args('input') input: DestinationInput & { organizationId?: string | null },
  ) {
    const organizationId = organizationFor(context, input.organizationId, 'organizationId');
    return this.#answer(context, unwrap(await this.destinations.create(input, requesterFor(context, organizationId))));
  }

  @Mutation()
  async updateDestination(
    @Context() context: RequestContext,
    @Args('id') id: string,
    @Args('input') input: DestinationInput,
  ) {
    const requester = requesterFor(context, '');
    return this.#answer(
      context,
      unwrap(await this.destinations.update(known(id), input, requester, accessOf(context))),
    );
  }

  @Mutation()
  async rotateDestinationSecret(
    @Context() context: RequestContext,
    @Args('id') id: string,
    @Args('overlapSeconds') overlapSeconds: number,
    @Args('signature') signature?: SigningKind | null,
  ) {
    const requester = requesterFor(context, '');
    const wish = { overlapSeconds, signature: signature ?? null };
    const rotated = await this.destinations.rotateSecret(known(id), wish, requester, accessOf(context));
    return this.#answer(context, unwrap(rotated));
  }

  @Mutation()
  async enableDestination(@Context() context: RequestContext, @Args('id') id: string) {
    const requester = requesterFor(context, '');
    return this.#answer(context, unwrap(await this.destinations.enable(known(id), requester, accessOf(context))));
  }

  @Mutation()
  async disableDestination(@Context() context: RequestContext, @Args('id') id: string, @Args('reason') reason: string) {
    const requester = requesterFor(context, '');
    const disabled = await this.destinations.disable(known(id), reason, requester, accessOf(context));
    return this.#answer(context, unwrap(disabled));
  }

  @Mutation()
  async deleteDestination(@Context() context: RequestContext, @Args('id') id: string) {
    const deleted = unwrap(await this.destinations.delete(known(id), requesterFor(context, ''), accessOf(context)));
    this.reads.wrote(context, deleted.position);
    return true;
  }

  @Mutation()
  async createStatusWebhook(@Context() context: RequestContext, @Args('input') input: StatusWebhookInput) {
    const organizationId = organizationFor(context, input.organizationId, 'organizationId');
    const known = await this.statusWebhooks(context, organizationId);
    if (known.length >= MAX_STATUS_WEBHOOKS)
      throw new ApiError('CONFLICT', `an organization has at most ${MAX_STATUS_WEBHOOKS} status webhooks`);
    const requester = requesterFor(context, organizationId);
    return this.#answer(context, unwrap(await this.destinations.create(statusDestination(input), requester)));
  }

  @Mutation()
  async deleteStatusWebhook(@Context() context: RequestContext, @Args('id') id: string) {
    const found = await this.reads.destination(context, known(id));
    if (!found || !isStatusWebhook(found)) throw new ApiError('NOT_FOUND', 'there is no such status webhook');
    return await this.deleteDestination(context, id);
  }

  @Query()
  async statusWebhooks(@Context() context: RequestContext, @Args('organizationId') organizationId?: string | null) {
    const webhooks = await this.reads.destinations(context, scopeOf(context, organizationId), 'WEBHOOK');
    return webhooks.filter(isStatusWebhook);
  }

  @Mutation()
  testDestination(@Context() context: RequestContext, @Args('id') id: string) {
    return this.tester.test(known(id), accessOf(context));
  }

  @Query()
  async destination(@Context() context: RequestContext, @Args('id') id: string) {
    return isUuid(id) ? await this.reads.destination(context, id.toLowerCase()) : undefined;
  }

  @Query('destinations')
  async list(
    @Context() context: RequestContext,
    @Args('organizationId') organizationId?: string | null,
    @Args('type') type?: Channel | null,
  ) {
    return await this.reads.destinations(context, scopeOf(context, organizationId), type ?? undefined);
  }

  /** From the read model, which is waited for: health is only there. */
  async #answer(context: RequestContext, { id, position, signingSecret }: ChangedDestination) {
    this.reads.wrote(context, position);
    const shown = await this.reads.destination(context, id);
    if (!shown)
      throw new ApiError('UNAVAILABLE', 'the change is stored, but the read models are behind; query it again');
    return signingSecret === undefined ? shown : { ...shown, signingSecret };
  }
}

interface StatusWebhookInput {
  readonly organizationId?: string | null;
  readonly url: string;
  readonly events: readonly StatusEvent[];
  readonly label?: string | null;
  readonly headers?: Json;
  readonly signature?: SigningKind | null;
}

const MAX_STATUS_WEBHOOKS = 20;

function statusDestination({ url, events, label, headers, signature }: StatusWebhookInput): DestinationInput {
  const webhook = {
    url,
    statusEvents: [...new Set(events)],
    ...(headers !== null && headers !== undefined && { headers }),
    ...(signature === 'ED25519' && { signature: 'ed25519' }),
  };
  return { label: label ?? 'Status webhook', type: 'WEBHOOK', config: { webhook } };
}

const isStatusWebhook = ({ config }: { readonly config: JsonObject }): boolean =>
  (config.webhook as JsonObject | undefined)?.statusEvents !== undefined;

function known(id: string): string {
  if (!isUuid(id)) throw new ApiError('NOT_FOUND', 'there is no such destination');
  return id.toLowerCase();
}
