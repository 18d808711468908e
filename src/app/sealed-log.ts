import type { Logger } from 'pino';
import { Erasures, type Forget } from '../commands/erasures.js';
import { EventCodec } from '../event-store/codec.js';
import { ContentCollector, removeContentsOf } from '../event-store/content/collector.js';
import type { EventStore } from '../event-store/event-store.js';
import { KeyedEventStore } from '../event-store/keyed-event-store.js';
import { SealedFields } from '../event-store/sealed-fields.js';
import { SealedFiles } from '../event-store/sealed-files.js';
import type { Config } from '../platform/config.js';
import type { KeyTable } from '../security/key-table.js';
import type { Closings } from './closings.js';
import { openContents } from './contents.js';
import { openKeys } from './keys.js';
import type { Storage } from './storage.js';

export type SealedLog = Awaited<ReturnType<typeof openSealedLog>>;

/** The event log with the keys that its personal data is sealed with, and the large contents that lie outside it. */
export async function openSealedLog(config: Config, storage: Storage, logger: Logger, closings: Closings) {
  const { log, identity, keyPool } = storage;
  const keys = await openKeys(config, keyPool, log);
  const contents = await openContents(config, log, identity);
  if (config.eventStoreUrl !== undefined && config.content === undefined)
    logger.warn(
      { folder: contents.store.place },
      'large contents are kept in this folder, which other instances do not see: WAYBILL_CONTENT names one for all',
    );

  let forgotten = async (_subject: string): Promise<void> => undefined;
  const forget: Forget = async (ids, subject, organizationId) => {
    await keys.destroy(ids, subject, organizationId);
    // Nobody can read it any more; what cannot be removed now is found by the collector.
    await removeContentsOf(ids, contents).catch((error: unknown) =>
      logger.warn({ err: error }, 'contents whose keys were destroyed could not be removed yet'),
    );
    await forgotten(subject);
  };
  const erasures = new Erasures({
    reader: log,
    forget,
    load: () => followedIn(keys.table, log, identity.id),
    save: (position) => keys.table.followedErasures(identity.id, position),
    onTrouble: (error) => logger.warn({ err: error }, 'erasures cannot be followed; it will try again'),
  });
  // Before anything can be opened.
  await erasures.start();
  closings.push(() => erasures.stop());

  const collector = new ContentCollector({
    contents,
    reader: log,
    destroyedOf: async (asked) => {
      const rows = await keys.table.find([], asked);
      return new Set(rows.filter(({ wrapped }) => wrapped === null).map(({ id }) => id));
    },
    graceMs: config.contentGraceHours * 3_600_000,
    nowMs: Date.now,
    collected: (found) => logger.info(found, 'contents were looked through'),
    failed: (error) => logger.warn({ err: error }, 'contents could not be looked through; it will try again'),
  });
  collector.start();
  closings.push(() => collector.stop());

  return {
    keys,
    contents,
    forget,
    store: new KeyedEventStore(log, keys.dataKeys, contents),
    files: new SealedFiles(keys.dataKeys, contents),
    codec: new EventCodec(new SealedFields(keys.dataKeys)),
    /** Has somebody told of each subject whose data nobody can read any more. */
    tellForgotten: (tell: (subject: string) => Promise<void>) => {
      forgotten = tell;
    },
  };
}

/** A position beyond the end is of a log that was longer once. */
async function followedIn(table: KeyTable, store: EventStore, logId: string): Promise<bigint> {
  const followed = await table.erasuresFollowed(logId);
  return followed <= (await store.head()) ? followed : 0n;
}
