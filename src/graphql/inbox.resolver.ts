import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver, Subscription } from '@nestjs/graphql';
import { InboxReading } from '../commands/inbox-reading.js';
import { Inboxes } from '../commands/inboxes.js';
import { InboxPresence } from '../projections/inbox-presence.js';
import type { InboxOwner } from '../projections/inbox-query.js';
import { InboxTokens } from '../security/inbox-tokens.js';
import { ApiError, badInput, unwrap } from './errors.js';
import { InboxReads } from './inbox-reads.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { organizationFor, type RequestContext, requesterFor } from './request-context.js';

const MAX_IDS = 100;
const MAX_ADDRESSES = 100;
const MAX_TTL_SECONDS = 86_400;
const MAX_ADDRESS = 255;

/** What people see of the in-app channel, and what their applications need for it (docs/inbox.md). */
@Resolver()
@UseFilters(PassErrorsOn)
export class InboxResolver {
  constructor(
    private readonly inboxes: Inboxes,
    private readonly reading: InboxReading,
    private readonly reads: InboxReads,
    private readonly presence: InboxPresence,
    private readonly tokens: InboxTokens,
  ) {}

  @Query()
  inbox(
    @Context() context: RequestContext,
    @Args('organizationId') organizationId?: string | null,
    @Args('after') after?: string | null,
    @Args('before') before?: bigint | null,
    @Args('first') first?: number | null,
  ) {
    const owner = this.#ownerOf(context, organizationId);
    if (after && before) throw badInput([{ path: 'before', problem: 'goes without after' }]);
    return after
      ? this.reads.changed(context, owner, first ?? 50, after)
      : this.reads.newest(context, owner, first ?? 50, before ?? undefined);
  }

  @Query()
  async inboxPresence(
    @Context() context: RequestContext,
    @Args('addresses') addresses: readonly string[],
    @Args('organizationId') named?: string | null,
  ) {
    const organizationId = organizationFor(context, named, 'organizationId');
    if (addresses.length > MAX_ADDRESSES)
      throw badInput([{ path: 'addresses', problem: `must not be more than ${MAX_ADDRESSES}` }]);
    const persons = addresses.map((address) => this.inboxes.personOf(organizationId, address));
    const connected = await this.presence.among(persons);
    return addresses.map((address, index) => ({ address, isConnected: connected.has(persons[index] as string) }));
  }

  @Mutation()
  createInboxToken(
    @Context() context: RequestContext,
    @Args('address') address: string,
    @Args('ttlSeconds') ttlSeconds: number,
    @Args('organizationId') named?: string | null,
  ) {
    const organizationId = organizationFor(context, named, 'organizationId');
    const seen = context.principal.grants.get('VIEW_DELIVERY');
    // Whoever holds the token reads what was sent: nobody may hand on what they cannot see.
    if (seen !== 'all' && !seen?.includes(organizationId))
      throw new ApiError('FORBIDDEN', 'these credentials do not have the permission VIEW_DELIVERY');
    if (address.trim() === '' || address.length > MAX_ADDRESS)
      throw badInput([{ path: 'address', problem: `must have 1 to ${MAX_ADDRESS} characters` }]);
    if (ttlSeconds < 1 || ttlSeconds > MAX_TTL_SECONDS)
      throw badInput([{ path: 'ttlSeconds', problem: `must be from 1 to ${MAX_TTL_SECONDS}` }]);
    const expiresAt = new Date(Date.now() + ttlSeconds * 1_000);
    const person = this.inboxes.personOf(organizationId, address);
    return { token: this.tokens.issue({ organizationId, person }, expiresAt), expiresAt };
  }

  @Mutation()
  markInboxRead(
    @Context() context: RequestContext,
    @Args('ids') ids: readonly string[],
    @Args('organizationId') organizationId?: string | null,
  ) {
    return this.#mark(context, ids, true, organizationId);
  }

  @Mutation()
  markInboxUnread(
    @Context() context: RequestContext,
    @Args('ids') ids: readonly string[],
    @Args('organizationId') organizationId?: string | null,
  ) {
    return this.#mark(context, ids, false, organizationId);
  }

  @Subscription()
  inboxChanged(
    @Context() context: RequestContext,
    @Args('organizationId') organizationId?: string | null,
    @Args('after') after?: string | null,
  ) {
    return this.reads.changes(this.#ownerOf(context, organizationId), after ?? undefined);
  }

  async #mark(context: RequestContext, ids: readonly string[], isRead: boolean, named?: string | null) {
    const owner = this.#ownerOf(context, named);
    if (ids.length > MAX_IDS) throw badInput([{ path: 'ids', problem: `must not be more than ${MAX_IDS}` }]);
    const requester = requesterFor(context, owner.organizationId);
    for (const id of ids) {
      const marked = isRead
        ? await this.reading.read(id, owner.person, requester)
        : await this.inboxes.mark(id, false, owner.person, requester);
      const { position } = unwrap(marked);
      this.reads.wrote(context, position);
    }
    return true;
  }

  /** A token says whose inbox it opens; anybody else has the one that is addressed by their actor. */
  #ownerOf(context: RequestContext, named: string | null | undefined): InboxOwner {
    const organizationId = organizationFor(context, named, 'organizationId');
    const { inbox, actor } = context.principal;
    return { organizationId, person: inbox?.person ?? this.inboxes.personOf(organizationId, actor) };
  }
}
