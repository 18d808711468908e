import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import { Audit, AuditUnavailable } from '../audit/audit.js';
import { BadBundleRequest } from '../audit/bundle.js';
import type { SignedCheckpoint } from '../audit/checkpoint.js';
import { NoProof } from '../audit/proofs.js';
import { MalformedNote } from '../audit/signed-note.js';
import { AuditDamaged } from '../audit/store.js';
import type { TrailFilter } from '../audit/trail.js';
import type { PageArgs } from '../projections/page.js';
import { ApiError, badInput } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { type RequestContext, scopeOf } from './request-context.js';
import { trailPage } from './trail-page.js';

const MAX_BUNDLE_PAGE = 2_000;

interface TrailArgs extends PageArgs {
  readonly filter?: (TrailFilter & { readonly organizationId?: string | null }) | null;
}

/** Evidence: what was recorded, and that nothing of it was changed since. */
@Resolver()
@UseFilters(PassErrorsOn)
export class AuditResolver {
  constructor(private readonly audit: Audit) {}

  @Query()
  async auditCheckpoint() {
    return presented(await explaining(this.audit.checkpoint()));
  }

  @Query()
  async auditTrail(@Context() context: RequestContext, @Args() { filter, ...asked }: TrailArgs) {
    const { part, cursorOf } = trailPage('trail', asked);
    const scope = scopeOf(context, filter?.organizationId);
    const { entries, next } = await this.audit.trail.page(filter ?? {}, scope, part);
    const edges = entries.map((node) => ({ cursor: cursorOf(node.index), node }));
    return {
      edges,
      pageInfo: {
        hasNextPage: next !== undefined,
        hasPreviousPage: part.after !== undefined,
        startCursor: edges[0]?.cursor ?? null,
        // A page may end before it is full where long was looked for what is asked for.
        endCursor: next === undefined ? (edges.at(-1)?.cursor ?? null) : cursorOf(next),
      },
    };
  }

  @Query()
  async auditProof(
    @Args('kind') kind: 'INCLUSION' | 'CONSISTENCY',
    @Args('index') index?: number | null,
    @Args('firstSize') firstSize?: number | null,
    @Args('treeSize') size?: number | null,
  ) {
    const treeSize = size ?? undefined;
    if (kind === 'INCLUSION') {
      if (typeof index !== 'number') throw badInput([{ path: 'index', problem: 'is needed for INCLUSION' }]);
      return await explaining(this.audit.proof({ kind, index, treeSize }));
    }
    if (typeof firstSize !== 'number') throw badInput([{ path: 'firstSize', problem: 'is needed for CONSISTENCY' }]);
    return await explaining(this.audit.proof({ kind, firstSize, treeSize }));
  }

  @Query()
  async auditBundle(
    @Args('from') from?: Date | null,
    @Args('to') to?: Date | null,
    @Args('cursor') cursor?: string | null,
    @Args('entries') entries?: number | null,
  ) {
    const count = entries ?? 1_000;
    if (count < 1 || count > MAX_BUNDLE_PAGE)
      throw badInput([{ path: 'entries', problem: `must be from 1 to ${MAX_BUNDLE_PAGE}` }]);
    const range = { from: from ?? undefined, to: to ?? undefined };
    const { progress, ...page } = await explaining(this.audit.bundles.page(range, cursor ?? undefined, count));
    return { ...page, ...progress };
  }

  @Query()
  async verifyAudit() {
    const verification = await this.audit.verify();
    return { ...verification, checkpoint: () => this.audit.checkpoint().then(presented, () => null) };
  }

  @Mutation()
  async makeAuditCheckpoint() {
    return presented(await explaining(this.audit.makeCheckpoint()));
  }
}

const presented = ({ size, root, position, time, note, parsed }: SignedCheckpoint) => ({
  treeSize: size,
  rootHash: root.toString('base64'),
  position,
  signedAt: time,
  signature: parsed.signatures.at(-1)?.signature.toString('base64') ?? '',
  note,
});

async function explaining<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof AuditUnavailable) throw new ApiError('UNAVAILABLE', `${error.message}; try again`);
    if (error instanceof NoProof || error instanceof BadBundleRequest)
      throw badInput([{ path: error.path, problem: error.problem }]);
    if (error instanceof AuditDamaged) throw new ApiError('CONFLICT', error.message);
    if (error instanceof MalformedNote)
      throw new ApiError('CONFLICT', `the newest checkpoint ${error.message}: verify the audit`);
    throw error;
  }
}
