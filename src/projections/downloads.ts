import { accessLog, type DownloadEvent, download, type LoggedAccess } from '../domain/download.js';
import type { EventCodec } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import { attemptsOf } from './attempts.js';
import type { PastDelivery } from './past.js';

/** What happened at the links that a delivery offered. */
export async function downloadsOf(
  reader: EventReader,
  codec: EventCodec,
  { view, events }: PastDelivery,
): Promise<DownloadEvent[][]> {
  const offers = attemptsOf(view.id, events).flatMap(({ channel, providerMessageId }) =>
    channel === 'DOWNLOAD' && providerMessageId !== null ? [`${download.category}-${providerMessageId}`] : [],
  );
  const streams = await Promise.all(offers.map((stream) => reader.readStream(stream)));
  return streams.map((recorded) => codec.decodeStream<DownloadEvent>(recorded).map(({ event }) => event));
}

/** Who came to any of them and when, the oldest first. */
export const accessesOf = (downloads: readonly (readonly DownloadEvent[])[]): LoggedAccess[] =>
  downloads.flatMap(accessLog).sort((one, other) => Date.parse(one.at) - Date.parse(other.at));
