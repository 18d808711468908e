import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import { DataSubjects, type Recipient } from '../commands/data-subjects.js';
import type { PageArgs } from '../projections/page.js';
import { unwrap } from './errors.js';
import { InboxReads } from './inbox-reads.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { organizationFor, type RequestContext, requesterFor } from './request-context.js';

/** What persons are owed: a report of what is held about them (GDPR article 15), and to be forgotten (article 17). */
@Resolver()
@UseFilters(PassErrorsOn)
export class DataSubjectResolver {
  constructor(
    private readonly subjects: DataSubjects,
    private readonly reads: ReadModels,
    private readonly inboxes: InboxReads,
  ) {}

  @Query()
  async subjectReport(
    @Context() context: RequestContext,
    @Args('recipient') recipient: Recipient,
    @Args('organizationId') named?: string | null,
  ) {
    const organizationId = organizationFor(context, named, 'organizationId');
    const { subject, keys, legalHold, erasedAt } = unwrap(await this.subjects.report(recipient, organizationId));
    return {
      subject,
      keys: keys.length,
      heldSince: keys[0]?.createdAt ?? null,
      legalHold: legalHold ?? null,
      erasedAt: erasedAt ?? null,
      deliveries: (page: PageArgs) => this.reads.deliveries(context, { organizationId, subject }, page),
      inboxMessages: ({ first, before }: { first: number; before?: bigint | null }) =>
        this.inboxes.held(context, [organizationId], subject, first, before ?? undefined),
      suppressions: () => this.reads.suppressionsOf(context, [organizationId], subject),
    };
  }

  @Mutation()
  async eraseSubject(
    @Context() context: RequestContext,
    @Args('recipient') recipient: Recipient,
    @Args('reason') reason: string,
    @Args('organizationId') named?: string | null,
  ) {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    const erased = unwrap(await this.subjects.erase(recipient, reason, requester));
    this.reads.wrote(context, erased.position);
    return erased;
  }

  @Mutation()
  async placeLegalHold(
    @Context() context: RequestContext,
    @Args('recipient') recipient: Recipient,
    @Args('reason') reason: string,
    @Args('organizationId') named?: string | null,
  ) {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    return unwrap(await this.subjects.placeHold(recipient, reason, requester)).state.legalHold;
  }

  @Mutation()
  async releaseLegalHold(
    @Context() context: RequestContext,
    @Args('recipient') recipient: Recipient,
    @Args('reason') reason: string,
    @Args('organizationId') named?: string | null,
  ): Promise<true> {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    unwrap(await this.subjects.releaseHold(recipient, reason, requester));
    return true;
  }
}
