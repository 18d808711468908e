import type { EventReader } from '../../event-store/event-store.js';
import { pause } from './pause.js';
import type { Track } from './track.js';

export interface Patience {
  readonly reader: Pick<EventReader, 'head' | 'eventsBetween'>;
  /** A track that has not got on for so long, although there is something to do, has stalled. */
  readonly stalledAfterMs: number;
}

/** What is to end when nothing happens. */
export interface Watched {
  readonly signal: AbortSignal;
  readonly fail: (error: Error) => void;
}

/** There is something to read, or should be, and nothing happens. */
class Stalled extends Error {
  override name = 'Stalled';
}

const LOOKS = 6;

/**
 * Looks now and then whether a track gets on, as long as its session lives. One that does not is ended, because a new
 * connection and a new subscription mend most of what can be the matter; and it is said at once, because what hangs may
 * not end.
 */
export async function watchOver(
  track: Track,
  { reader, stalledAfterMs }: Patience,
  { signal, fail }: Watched,
  changed: () => void,
): Promise<void> {
  let position = track.position;
  let since = performance.now();
  for (;;) {
    await pause(stalledAfterMs / LOOKS, signal);
    if (signal.aborted) return;
    // The log may be what hangs.
    const question = reader.head().catch((error: Error) => error);
    const silence = pause(stalledAfterMs / LOOKS, signal).then(() => undefined);
    const head = await Promise.race([question, silence]);
    if (signal.aborted) return;
    if (track.position !== position || (typeof head === 'bigint' && head <= track.position)) {
      position = track.position;
      since = performance.now();
    } else if (performance.now() - since >= stalledAfterMs) {
      const error = new Stalled(`no progress for ${Math.round((performance.now() - since) / 1_000)} s: ${why(head)}`);
      track.error = error.message;
      fail(error);
      return changed();
    }
  }

  function why(head: bigint | Error | undefined): string {
    if (typeof head !== 'bigint') return head?.message ?? 'the event log does not answer';
    return `about ${reader.eventsBetween(track.position, head)} events are waiting`;
  }
}
