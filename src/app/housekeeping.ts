import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { AccessDirectory } from '../commands/access-directory.js';
import { DestinationDirectory } from '../commands/destination-directory.js';
import { Retention } from '../commands/retention.js';
import { RetentionPolicies } from '../commands/retention-policies.js';
import { InboxLive } from '../graphql/inbox-live.js';
import { LiveSockets } from '../graphql/live-sockets.js';
import { InboxPresence } from '../projections/inbox-presence.js';
import type { Closings } from './closings.js';
import { DataDisposal } from './data-disposal.js';
import { FileRetention } from './file-retention.js';
import type { Infrastructure } from './infrastructure.js';

/** Keeps what the application has in memory up to date with the log. */
export function followLog(
  app: NestFastifyApplication,
  { store, headAtStart }: Infrastructure,
  closings: Closings,
): void {
  const following = new AbortController();
  const followers = [
    app.get(DestinationDirectory),
    app.get(AccessDirectory),
    app.get(RetentionPolicies),
    app.get(InboxLive),
  ];
  for (const follower of followers) follower.follow(store, headAtStart, following.signal);
  closings.push(async () => {
    following.abort();
    await Promise.all(followers.map((follower) => follower.stopped()));
  });
  closings.push(() => app.get(InboxPresence).stop());
  closings.push(() => app.get(LiveSockets).stop());
}

/** Starts what removes, from time to time, what need not be kept any longer. */
export function startDisposal(app: NestFastifyApplication, infrastructure: Infrastructure, closings: Closings): void {
  const { channels, reads, pool, logger } = infrastructure;
  const destinations = app.get(DestinationDirectory);
  const files = new FileRetention(channels.registry, {
    async *destinations() {
      for (const { id } of await reads.destinations.list('all', 'STORAGE')) {
        const found = await destinations.find(id);
        if (found) yield { id, organizationId: found.definition.organizationId, type: 'STORAGE', config: found.config };
      }
    },
    removed: (destination, removed) =>
      logger.info({ destination, files: removed }, 'files were removed that had been kept long enough'),
    failed: (destination, error) =>
      logger.warn({ destination, err: error }, 'files that are too old could not be removed'),
  });
  files.start();
  closings.push(() => files.stop());
  const data = new DataDisposal(app.get(Retention), {
    pool,
    disposed: (organization, retention, keys) =>
      logger.info({ organization, retention, keys }, 'what need not be kept any longer was disposed of'),
    failed: (error) => logger.error({ err: error }, 'what need not be kept any longer could not be disposed of'),
  });
  data.start();
  closings.push(() => data.stop());
}
