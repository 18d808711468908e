import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import { Audit } from '../audit/audit.js';
import { NoProof } from '../audit/proofs.js';
import type { TrailEntry } from '../audit/trail.js';
import { disposalId } from '../commands/ids.js';
import { allClasses, Retention } from '../commands/retention.js';
import type { DisposalEvent } from '../domain/disposal.js';
import type { RetentionState } from '../domain/retention.js';
import type { PageArgs } from '../projections/page.js';
import { unwrap } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { organizationFor, type RequestContext, requesterFor } from './request-context.js';
import { trailPage } from './trail-page.js';

interface ClassInput {
  readonly name: string;
  readonly keep?: string | null;
  readonly tags?: readonly string[] | null;
}

interface DisposalArgs extends PageArgs {
  readonly organizationId?: string | null;
  readonly year?: number | null;
}

/** How long content is kept, and evidence that it is no longer. */
@Resolver()
@UseFilters(PassErrorsOn)
export class RetentionResolver {
  constructor(
    private readonly policy: Retention,
    private readonly audit: Audit,
  ) {}

  @Query()
  async retention(@Context() context: RequestContext, @Args('organizationId') named?: string | null) {
    const organizationId = organizationFor(context, named, 'organizationId');
    return presented(organizationId, await this.policy.of(organizationId));
  }

  @Query()
  async disposals(@Context() context: RequestContext, @Args() { organizationId: named, year, ...asked }: DisposalArgs) {
    const { part, cursorOf } = trailPage('disposals', asked);
    const organizationId = organizationFor(context, named, 'organizationId');
    const subject = `disposal-${disposalId(organizationId, year ?? new Date().getUTCFullYear())}`;
    const { entries, next } = await this.audit.trail.page({ subject }, [organizationId], part);
    return {
      certificates: entries.map((entry) => this.#certificate(entry)),
      cursor: next === undefined ? null : cursorOf(next),
    };
  }

  @Mutation()
  async setRetention(
    @Context() context: RequestContext,
    @Args('classes') classes: readonly ClassInput[],
    @Args('reason') reason: string,
    @Args('organizationId') named?: string | null,
  ) {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    const given = classes.map(({ name, keep, tags }) => ({
      name,
      ...(typeof keep === 'string' && { keep }),
      ...(tags && tags.length > 0 && { tags }),
    }));
    return presented(requester.organizationId, unwrap(await this.policy.set(given, reason, requester)).state);
  }

  @Mutation()
  async disposeExpired(
    @Context() context: RequestContext,
    @Args('dryRun') dryRun?: boolean | null,
    @Args('organizationId') named?: string | null,
  ) {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    return await this.policy.dispose(requester, new Date(), dryRun ?? false);
  }

  #certificate({ position, index, recordedAt, leafHash, data }: TrailEntry) {
    const { organizationId, retention, keep, firstWeek, lastWeek, keys, by } = data as unknown as DisposalEvent['data'];
    return {
      ...{ position, organizationId, retention, keep, firstWeek, lastWeek, leafHash },
      ...{ keysDestroyed: keys.length, disposedBy: by, disposedAt: recordedAt },
      proof: () =>
        this.audit.proof({ kind: 'INCLUSION', index, treeSize: undefined }).catch((error: unknown) => {
          if (error instanceof NoProof) return null;
          throw error;
        }),
    };
  }
}

const presented = (organizationId: string, state: RetentionState) => ({
  organizationId,
  classes: allClasses(state).map(({ name, keep, tags }) => ({ name, keep: keep ?? null, tags: tags ?? [] })),
  setBy: state.set?.by ?? null,
  reason: state.set?.reason ?? null,
  setAt: state.set?.at ?? null,
});
