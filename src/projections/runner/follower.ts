import type { EventReader } from '../../event-store/event-store.js';
import { Approach } from './approach.js';
import { loadCheckpoints } from './checkpoints.js';
import type { Member } from './member.js';
import { pause } from './pause.js';
import { keepTrying, type Session, type Trials } from './session.js';
import type { Track } from './track.js';

export interface FollowerOptions extends Omit<Trials, 'signal'> {
  readonly member: Member;
  /** Its own. */
  readonly track: Track;
  /** Where it is to end up. */
  readonly group: Track;
  readonly reader: EventReader;
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
    const { track, member, postgres, epoch, patience, changed, superseded } = options;
    track.members.add(member);
    const trials = {
      postgres,
      epoch,
      changed,
      superseded,
      signal: this.#stopping.signal,
      ...(patience && { patience }),
    };
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
    if (outdated) throw new Error(`${member.projection.name} was set back by another version of this program`);
    track.restart(member.position);
    track.onBoundary = changed;
    const approach = new Approach(reader, track, group);
    while (!signal.aborted) {
      await track.run(approach.history(signal), connection, fail);
      const hasJoined = await group.turn.run(async () => {
        const hasArrived = await approach.arrive(connection, signal);
        if (hasArrived) group.members.add(member);
        return hasArrived;
      });
      if (hasJoined) return;
      await pause(LOOK_AGAIN_MS, signal);
    }
  }
}
