import { join } from 'node:path';
import { ContentFiles } from '../event-store/content/content-files.js';
import type { ContentStore } from '../event-store/content/content-store.js';
import { Contents, elsewhere } from '../event-store/content/contents.js';
import { S3Contents } from '../event-store/content/s3-contents.js';
import type { EventStore } from '../event-store/event-store.js';
import type { LogIdentity } from '../event-store/log-identity.js';
import type { Config } from '../platform/config.js';

type Place = Pick<Config, 'content' | 'dataDir'>;

/** Which of the two stores of large contents runs is decided here and nowhere else. */
export function contentStoreOf(config: Place): ContentStore {
  if (!config.content?.startsWith('s3://')) return new ContentFiles(contentFolder(config));
  const { hostname: bucket, pathname, searchParams } = new URL(config.content);
  const folder = pathname.replace(/^\/+|\/+$/g, '');
  const [region, endpoint] = [searchParams.get('region'), searchParams.get('endpoint')];
  return new S3Contents({
    bucket,
    prefix: folder === '' ? '' : `${folder}/`,
    ...(region !== null && { region }),
    ...(endpoint !== null && { endpoint }),
  });
}

export const contentFolder = ({ content, dataDir }: Place): string => content ?? join(dataDir, 'content');

/**
 * Opens what the events of a log name outside it. Nothing is made before there is something to store.
 *
 * @throws Error, one line for the operator: the contents of this log are elsewhere, or those there are another log's
 */
export async function openContents(config: Config, log: EventStore, { id, formerly }: LogIdentity): Promise<Contents> {
  const store = contentStoreOf(config);
  const acceptsLost = config.acceptLostContent;
  const contents = new Contents(store, log, { logId: formerly[0] ?? id, acceptsLost });
  if ((await contents.isTheLogs()) === false && !acceptsLost) throw new Error(elsewhere(store.place));
  return contents;
}
