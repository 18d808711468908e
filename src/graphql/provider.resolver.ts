import { UseFilters } from '@nestjs/common';
import { Args, Query, Resolver } from '@nestjs/graphql';
import { ProviderDirectory } from '../commands/provider-directory.js';
import type { Channel } from '../domain/vocabulary.js';
import { PassErrorsOn } from './pass-errors-on.js';

/** The providers that bare addresses are sent through: whoever may name one in a request may know how it is. */
@Resolver()
@UseFilters(PassErrorsOn)
export class ProviderResolver {
  constructor(private readonly providers: ProviderDirectory) {}

  @Query()
  providerHealth(@Args('channel') channel?: Channel | null) {
    return this.providers.health(channel ?? undefined);
  }
}
