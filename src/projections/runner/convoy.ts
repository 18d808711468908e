import type { EventReader } from '../../event-store/event-store.js';
import { Approach } from './approach.js';
import { adoptCheckpoint, loadCheckpoints } from './checkpoints.js';
import { type Member, schemaOf } from './member.js';
import { pause } from './pause.js';
import { keepTrying, type Session, type Trials } from './session.js';
import type { Track } from './track.js';

export interface ConvoyOptions extends Omit<Trials, 'signal' | 'schema' | 'patience'> {
  /** The projections whose next versions are to come along. */
  readonly names: readonly string[];
  /** Its own. */
  readonly track: Track;
  /** Where it goes to. */
  readonly group: Track;
  readonly reader: EventReader;
  /** The most it may read; null when it may go as fast as it can. */
  readonly eventsPerSecond: number | null;
}

/** One that comes along. */
interface Passenger {
  /** Called between two batches. @returns whether it still wants to */
  readonly onBoundary: () => Promise<boolean>;
  readonly done: () => void;
}

/** Who has not come by then, goes alone. */
const WAIT_MS = 10_000;

/**
 * Several new versions on their way through history together: each batch is read and folded once, and stored for all of
 * them in one transaction. Who is not where most of them are goes alone; so does everybody for the rest of the way, from
 * where the convoy ends, at most a batch behind the group.
 */
export class Convoy {
  readonly track: Track;
  readonly #options: ConvoyOptions;
  readonly #expected: Set<string>;
  readonly #passengers = new Map<Member, Passenger>();
  readonly #stopping = new AbortController();
  readonly #patience: NodeJS.Timeout;
  #ended: Promise<void> | undefined;

  constructor(options: ConvoyOptions) {
    this.#options = options;
    this.track = options.track;
    this.#expected = new Set(options.names);
    this.#patience = setTimeout(() => this.#depart(), WAIT_MS);
  }

  /**
   * Brings a new version on its way. Ends when the convoy has arrived, cannot take it along, or `signal` aborts: wherever
   * its checkpoint is by then.
   */
  async travel(member: Member, onBoundary: () => Promise<boolean>, signal: AbortSignal): Promise<void> {
    if (this.#stopping.signal.aborted || signal.aborted || !this.#expected.delete(member.projection.name)) return;
    await new Promise<void>((resolve) => {
      this.#passengers.set(member, { onBoundary, done: resolve });
      signal.addEventListener('abort', () => resolve(), { once: true });
      if (this.#expected.size === 0) this.#depart();
    });
    await this.#leave(member);
  }

  takes(member: Member): boolean {
    return this.#passengers.has(member);
  }

  /** It will not come. */
  without(name: string): void {
    if (this.#expected.delete(name) && this.#expected.size === 0) this.#depart();
  }

  #depart(): void {
    clearTimeout(this.#patience);
    this.#expected.clear();
    const schema = this.#options.names.map((name) => schemaOf(name, 'building')).join(', ');
    const trials = { ...this.#options, schema, signal: this.#stopping.signal };
    this.#ended ??= keepTrying(this.track, trials, (session) => this.#carry(session)).finally(() => {
      this.#stopping.abort();
      for (const { done } of this.#passengers.values()) done();
    });
  }

  async #leave(member: Member): Promise<void> {
    this.#passengers.delete(member);
    await this.track.turn.run(async () => this.track.members.delete(member));
    if (this.#passengers.size > 0) return;
    this.#stopping.abort();
    await this.#ended;
  }

  async #carry({ connection, signal, fail }: Session): Promise<void> {
    const { track, group, reader, epoch, eventsPerSecond } = this.#options;
    await this.#ask();
    const members = [...this.#passengers.keys()];
    for (const member of members) await adoptCheckpoint(connection, member, epoch);
    const outdated = await loadCheckpoints(connection, members, epoch);
    const position = mostOften(members.map((member) => member.position));
    for (const member of members) {
      if (member.position === position && !outdated.includes(member)) track.members.add(member);
      else this.#passengers.get(member)?.done();
    }
    track.restart(position);
    track.onBoundary = () => this.#ask();
    await track.run(new Approach(reader, track, group).history(signal, eventsPerSecond), connection, fail);
  }

  async #ask(): Promise<void> {
    for (const { onBoundary, done } of [...this.#passengers.values()])
      if (!(await onBoundary().catch(() => false))) done();
    // They leave in the turns that follow.
    await pause(0, this.#stopping.signal);
  }
}

function mostOften(positions: readonly bigint[]): bigint {
  const counts = new Map<bigint, number>();
  for (const position of positions) counts.set(position, (counts.get(position) ?? 0) + 1);
  return [...counts].reduce((best, one) => (one[1] > best[1] ? one : best), [0n, 0])[0];
}
