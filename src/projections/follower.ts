import type { EventReader } from '../event-store/event-store.js';
import { loadCheckpoints } from './checkpoints.js';
import type { Connection } from './connection.js';
import type { Member } from './member.js';
import type { EventBatch } from './pacing.js';
import { pause } from './pause.js';
import { recallRebuilds, storeRebuildProgress } from './rebuild.js';
import { keepTrying, type Session, type Trials } from './session.js';
import type { Track } from './track.js';

export interface FollowerOptions extends Omit<Trials, 'signal'> {
  readonly member: Member;
  /** Its own. */
  readonly track: Track;
  /** Where it is to end up. */
  readonly group: Track;
  readonly reader: EventReader;
  readonly epoch: bigint;
  /** The last thing that is done before it is a part of the group. */
  readonly joining: (connection: Connection) => Promise<void>;
}

/** How often one that is ahead of a group that was set back looks again. */
const LOOK_AGAIN_MS = 20;

/** Brings one projection through history to where the group is, and makes it part of the group. */
export class Follower {
  readonly ended: Promise<void>;
  readonly #options: FollowerOptions;
  readonly #stopping = new AbortController();

  constructor(options: FollowerOptions) {
    this.#options = options;
    const { track, member, postgres, patience, changed, superseded } = options;
    track.members.add(member);
    const trials = { postgres, patience, changed, superseded, signal: this.#stopping.signal };
    this.ended = keepTrying(track, trials, (session) => this.#catchUp(session));
  }

  get track(): Track {
    return this.#options.track;
  }

  /** It ends after the batch at hand, or as a part of the group if it was just joining. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.ended;
  }

  async #catchUp({ connection, signal, fail }: Session): Promise<void> {
    const { member, track, group, reader, epoch, changed } = this.#options;
    const [outdated] = await loadCheckpoints(connection, [member], epoch);
    await recallRebuilds(connection, [member]);
    if (outdated) throw new Error(`${member.projection.name} was set back by another version of this program`);
    track.restart(member.position);
    track.onBoundary = async () => {
      await storeRebuildProgress(connection, member, epoch, reader, group.position);
      changed();
    };
    while (!signal.aborted) {
      await track.run(this.#history(signal), connection, fail);
      if (await group.turn.run(() => this.#join({ connection, signal, fail }))) return;
      await pause(LOOK_AGAIN_MS, signal);
    }
  }

  /** Full batches, as long as there are some on the way to the group. */
  async *#history(signal: AbortSignal): AsyncGenerator<EventBatch> {
    const { track } = this.#options;
    let after = track.position;
    while (!signal.aborted) {
      const { events, isFull } = await this.#readTowardsGroup(after);
      const last = events.at(-1);
      if (!isFull || !last) return;
      after = last.position;
      yield { events, position: after, caughtUp: false };
    }
  }

  /** The group stands still meanwhile. @returns whether the projection is part of it now */
  async #join({ connection, signal }: Session): Promise<boolean> {
    const { member, track, group, joining } = this.#options;
    while (track.position < group.position && !signal.aborted) {
      const { events, isFull } = await this.#readTowardsGroup(track.position);
      const last = events.at(-1);
      // The log may have nothing more up to the group's position: other streams are not read.
      const position = isFull && last ? last.position : group.position;
      await track.apply({ events, position, caughtUp: false }, connection);
    }
    if (signal.aborted || track.position !== group.position) return false;
    await joining(connection);
    group.members.add(member);
    return true;
  }

  async #readTowardsGroup(after: bigint) {
    const { reader, group, track } = this.#options;
    const limit = track.limit;
    const read = await reader.readAll(after, limit);
    const events = read.filter(({ position }) => position <= group.position);
    // A read ends early when its events are large: only one that found nothing more has seen everything.
    const reached = read.at(-1)?.position ?? group.position;
    return { events, isFull: reached < group.position };
  }
}
