import { join } from 'node:path';
import type { Logger } from 'pino';
import { TrackingLinks } from '../channels/email/tracking.js';
import { createChannels } from '../channels/registry.js';
import { Downloads } from '../commands/downloads.js';
import { CommandExecutor } from '../commands/executor.js';
import { Inboxes } from '../commands/inboxes.js';
import type { Config } from '../platform/config.js';
import { adminKey } from '../platform/data-directory.js';
import { helpersGiveWay } from '../platform/precedence.js';
import { tidyAtRest } from '../platform/tidy-at-rest.js';
import { version } from '../platform/version.js';
import { Engine } from '../sagas/engine.js';
import { StatusWebhooks } from '../sagas/status-webhooks.js';
import { DownloadLinks } from '../security/download-links.js';
import { Passwords } from '../security/passwords.js';
import type { Closings } from './closings.js';
import { startFollowers } from './followers.js';
import type { Foundation } from './foundation.js';
import { followLog, startDisposal } from './housekeeping.js';
import type { Infrastructure } from './infrastructure.js';
import { openSealedLog } from './sealed-log.js';
import { createServer, listen, openDoors } from './server.js';
import { openStorage } from './storage.js';

export interface Assembled {
  readonly url: string;
  /** Set when this start made it. */
  readonly newAdminKey: string | undefined;
}

/** Starts everything that stands on the foundation, in order. @throws with one line for the operator when a part cannot start */
export async function assemble(
  config: Config,
  foundation: Foundation,
  logger: Logger,
  closings: Closings,
): Promise<Assembled> {
  const storage = await openStorage(config, foundation, logger, closings);
  const { directory, instanceId, isAlone, headAtStart, pool } = storage;
  const { key, isNew } = await adminKey(config);
  const sealed = await openSealedLog(config, storage, logger, closings);
  const { store, codec, keys, contents, files, forget } = sealed;

  const executor = new CommandExecutor(store, codec);
  const passwords = new Passwords();
  const downloads = new Downloads({
    ...{ executor, codec, reader: store, shelf: files },
    hashPassword: (password) => passwords.hash(password),
  });
  const downloadLinks = new DownloadLinks(keys.derived('download links'));
  const inboxes = new Inboxes(executor, keys.subjects);
  const links = new TrackingLinks({ publicUrl: config.publicUrl, sign: (text) => keys.subjects.digest(text) });
  const channels = createChannels({
    ...{ links, inboxes, downloads },
    allowedNetworks: config.allowedNetworks,
    version: version(),
    localRoot: config.localStorageRoot ?? join(directory.path, 'files'),
  });
  closings.push(() => channels.close());

  const { registry } = channels;
  const followers = startFollowers({ config, storage, sealed, registry, logger }, closings);
  const infrastructure: Infrastructure = {
    ...{ config, adminKey: key, instanceId, isAlone, headAtStart, logger },
    ...{ store, keys, contents, forget, pool },
    ...{ channels, inboxes, downloads, downloadLinks },
    ...followers,
  };
  const app = await createServer(infrastructure, closings);
  await openDoors(app, {
    ...{ infrastructure, executor, links },
    downloads: { downloads, passwords, files, links: downloadLinks },
  });
  followLog(app, infrastructure, closings);
  startDisposal(app, infrastructure, closings);
  const engine = app.get(Engine);
  sealed.tellForgotten((subject) => engine.reconsider(subject));
  closings.push(() => engine.stop());
  const statusWebhooks = app.get(StatusWebhooks);
  closings.push(() => statusWebhooks.stop());
  closings.push(() => app.close());

  const url = await listen(app, config);
  helpersGiveWay();
  engine.start();
  statusWebhooks.start();
  closings.push(tidyAtRest());
  return { url, newAdminKey: isNew ? key : undefined };
}
