import { UseFilters } from '@nestjs/common';
import { Args, Context, Query, Resolver } from '@nestjs/graphql';
import { Downloads } from '../commands/downloads.js';
import { DownloadLinks } from '../security/download-links.js';
import { presentAccess } from './delivery-presenter.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { ReadModels } from './read-models.js';
import type { RequestContext } from './request-context.js';

/** Where the world reaches this installation; empty when nobody has said. */
export class PublicUrl {
  constructor(readonly base: string) {}
}

@Resolver()
@UseFilters(PassErrorsOn)
export class DownloadResolver {
  constructor(
    private readonly all: Downloads,
    private readonly links: DownloadLinks,
    private readonly reads: ReadModels,
    private readonly publicUrl: PublicUrl,
  ) {}

  @Query()
  async downloads(@Context() context: RequestContext, @Args('deliveryId') deliveryId: string) {
    const delivery = await this.reads.delivery(context, deliveryId);
    const attempts = ((await delivery?.attempts()) ?? []) as readonly {
      readonly channel: string;
      readonly providerMessageId: string | null;
    }[];
    const ids = attempts.flatMap(({ channel, providerMessageId }) =>
      channel === 'DOWNLOAD' && providerMessageId !== null ? [providerMessageId] : [],
    );
    return (await Promise.all(ids.map((id) => this.#shown(id)))).flatMap((shown) => shown ?? []);
  }

  async #shown(id: string) {
    const found = await this.all.find(id);
    if (!found) return undefined;
    const { files = [], expiresAt, maxUses = null, uses, isViewOnly = false, hasPassword = false, offeredAt } = found;
    const { provider = null } = found;
    const own = (file: number) =>
      `${this.publicUrl.base}${this.links.pathOf({ id, file, expiresAt: new Date(expiresAt) })}`;
    return {
      ...{ id, provider, expiresAt, maxUses, uses, isViewOnly, hasPassword, offeredAt },
      condition: this.all.condition(found).toUpperCase(),
      files: files.map((file, index) => ({ ...file, url: file.url ?? own(index) })),
      accesses: async () => (await this.all.accesses(id)).map(presentAccess),
    };
  }
}
