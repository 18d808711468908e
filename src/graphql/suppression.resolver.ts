import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import { type Changed, Suppressions } from '../commands/suppressions.js';
import type { Channel } from '../domain/vocabulary.js';
import type { PageArgs } from '../projections/page.js';
import { badInput, unwrap } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import { organizationFor, type RequestContext, scopeOf } from './request-context.js';

const MAX_NOTE = 500;

interface Entry {
  readonly organizationId?: string | null;
  readonly channel: Channel;
  readonly address: string;
  readonly note?: string | null;
}

interface ListArgs extends PageArgs {
  readonly organizationId?: string | null;
  readonly channel?: Channel | null;
}

@Resolver('Suppression')
@UseFilters(PassErrorsOn)
export class SuppressionResolver {
  constructor(
    private readonly suppressed: Suppressions,
    private readonly reads: ReadModels,
  ) {}

  @Query()
  async suppressions(@Context() context: RequestContext, @Args() { organizationId, channel, ...page }: ListArgs) {
    return await this.reads.suppressions(context, scopeOf(context, organizationId), channel ?? undefined, page);
  }

  @Mutation()
  async suppressAddress(@Context() context: RequestContext, @Args() entry: Entry) {
    const addressee = this.#addressee(context, entry);
    const cause = { reason: 'MANUAL', by: context.principal.actor, happenedAt: new Date() } as const;
    return this.#done(context, await this.suppressed.suppress(addressee, { ...cause, ...noteOf(entry) }));
  }

  @Mutation()
  async releaseAddress(@Context() context: RequestContext, @Args() entry: Entry) {
    const addressee = this.#addressee(context, entry);
    const { note } = noteOf(entry);
    return this.#done(context, await this.suppressed.release(addressee, context.principal.actor, note));
  }

  #addressee(context: RequestContext, { organizationId, channel, address }: Entry) {
    const problem = this.suppressed.problemWith(channel, address);
    if (problem) throw badInput([{ path: 'address', problem }]);
    return { organizationId: organizationFor(context, organizationId, 'organizationId'), channel, address };
  }

  #done(context: RequestContext, changed: Changed): true {
    this.reads.wrote(context, unwrap(changed).position);
    return true;
  }
}

function noteOf({ note }: Entry): { readonly note?: string } {
  if (!note) return {};
  if (note.length > MAX_NOTE) throw badInput([{ path: 'note', problem: `must have at most ${MAX_NOTE} characters` }]);
  return { note };
}
