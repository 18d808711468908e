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
import { Closings } from './closings.js';
import { startFollowers } from './followers.js';
import { followLog, startDisposal } from './housekeeping.js';
import type { Infrastructure } from './infrastructure.js';
import { openSealedLog } from './sealed-log.js';
import { createServer, listen, openDoors } from './server.js';
import { openStorage } from './storage.js';

/** One running instance: everything it needs is started in order, and stopped in the opposite one. */
export class Waybill {
  readonly #closings: Closings;

  private constructor(
    readonly url: string,
    readonly dataDir: string,
    /** Set when this start made it; it is shown once. */
    readonly newAdminKey: string | undefined,
    closings: Closings,
  ) {
    this.#closings = closings;
  }

  /** @throws with one line for the operator when a part cannot start; what was started is stopped again */
  static async start(config: Config, logger: Logger): Promise<Waybill> {
    const closings = new Closings();
    try {
      return await Waybill.#start(config, logger, closings);
    } catch (error) {
      await closings.close(logger);
      throw error;
    }
  }

  /** Takes no more requests, lets attempts under way end, stores where everything stands. */
  async stop(logger: Logger): Promise<void> {
    await this.#closings.close(logger);
  }

  static async #start(config: Config, logger: Logger, closings: Closings): Promise<Waybill> {
    const storage = await openStorage(config, logger, closings);
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
    return new Waybill(url, directory.path, isNew ? key : undefined, closings);
  }
}
