import type { Random } from './random.js';
import type { Host, Scheduler } from './scheduler.js';

/** How it goes between one host and one server at a moment; of two, the worse counts. */
export interface Weather {
  /** Nothing gets through; whoever tries is told so. */
  isDown: boolean;
  /** Longest additional delay of each way, ms. */
  slowMs: number;
  /** How many of the calls are done but never answered, from 0 to 1. */
  lostReplies: number;
}

export const fairWeather = (): Weather => ({ isDown: false, slowMs: 0, lostReplies: 0 });

export const worse = (one: Weather, other: Weather): Weather => ({
  isDown: one.isDown || other.isDown,
  slowMs: Math.max(one.slowMs, other.slowMs),
  lostReplies: Math.max(one.lostReplies, other.lostReplies),
});

/** Each way takes from 0.2 ms to this long when nothing is wrong. */
const USUAL_MS = 4;

/** What becomes of calls that end in doubt, and how often. */
const DOUBTS = { request: 2, reply: 3, late: 1, twice: 1 };

export interface Link {
  readonly host: Host;
  readonly random: Random;
  /** As it is now. */
  readonly weather: () => Weather;
  /** How many of the calls end in doubt, from 0 to 1, as it is now: request lost, reply lost, done late or twice. */
  readonly doubtful: () => number;
  /** How much later a request can be carried out that its sender has given up, or that is repeated on the way; 0 for never. */
  readonly latestMs: number;
  /** How long the sender waits for an answer that does not come. */
  readonly patienceMs: number;
  /** What it is told when there is none. */
  readonly failure: (why: string) => Error;
  /** Told of each call; false lets the call hang, because the simulation is over. */
  readonly onCall: () => boolean;
}

/** Calls a server: the request arrives later, the answer later still, and either may not. */
export function call<Result>(scheduler: Scheduler, link: Link, serve: () => Result): Promise<Result> {
  const { host, random, failure, latestMs } = link;
  // A program that calls without end while no time passes would never let go.
  if (!link.onCall()) return new Promise(() => undefined);
  return new Promise((resolve, reject) => {
    const weather = link.weather();
    const wayMs = () => random.between(0.2, USUAL_MS) + random.next() * weather.slowMs;
    const [there, back] = [wayMs(), wayMs()];
    const giveUp = (why: string, afterMs: number) => void scheduler.after(afterMs, host, () => reject(failure(why)));
    if (weather.isDown) return giveUp('no connection', there);
    const isLost = random.chance(weather.lostReplies);
    const doubt = random.chance(link.doubtful())
      ? random.weighted(latestMs > 0 ? DOUBTS : { ...DOUBTS, late: 0, twice: 0 })
      : undefined;
    const lateMs = random.next() * latestMs;
    if (doubt === 'request') return giveUp('no answer', link.patienceMs);
    const arrives = doubt === 'late' ? there + lateMs : there;
    scheduler.after(arrives, undefined, () => {
      if (link.weather().isDown) return giveUp('connection lost', back);
      const answer = attempted(serve);
      if (doubt === 'twice') scheduler.after(lateMs, undefined, () => attempted(serve));
      else if (doubt !== undefined) return;
      if (isLost) return;
      scheduler.after(back, host, () => (answer.ok ? resolve(answer.result) : reject(answer.error)));
    });
    // PostgreSQL carries nothing out that was given up: the locks of such a checkpoint hold the next one up until it is over.
    const patienceMs = latestMs > 0 ? link.patienceMs : Math.max(link.patienceMs, arrives + back);
    if (isLost || doubt === 'reply' || doubt === 'late') giveUp('no answer', patienceMs);
  });
}

function attempted<Result>(serve: () => Result) {
  try {
    return { ok: true, result: serve() } as const;
  } catch (error) {
    return { ok: false, error } as const;
  }
}
