import { PRIORITIES, type Priority } from '../domain/vocabulary.js';
import { Linked, LinkedList } from './linked-list.js';

/**
 * Who is next, in three steps. Priorities take turns by weight, the more urgent first. Within a priority the
 * organizations take turns, within an organization its gates (a gate is a destination, a provider, a host), and at one
 * gate it is first come, first served. So whoever has 100,000 waiting delays another by one turn, not by 100,000.
 *
 * What cannot start now does not stand in anybody's way: the lane of a closed gate waits at the gate, out of the turns,
 * until the gate wakes it, and that of an organization with enough under way until one of its own has ended. Each is put
 * aside at most once for each time it was added or woken, so every operation costs the same however much waits.
 */

/** Starts of each priority in one round, as long as it has something waiting. */
export const WEIGHTS: Readonly<Record<Priority, number>> = { URGENT: 8, HIGH: 4, NORMAL: 2, LOW: 1 };
/** Also the indices into whatever is kept for each priority. */
const RANK: Readonly<Record<Priority, number>> = { URGENT: 0, HIGH: 1, NORMAL: 2, LOW: 3 };
const RANKS = PRIORITIES.map((priority) => RANK[priority]);
const weightOf = PRIORITIES.map((priority) => WEIGHTS[priority]);

export interface Queued<Pass> {
  readonly priority: Priority;
  readonly organizationId: string;
  readonly gate: Gate<Pass>;
  /** Must not reject. */
  /** Calls `callEnded` when the other side is done with; what is left then is to store the outcome. */
  readonly run: (pass: Pass, callEnded: () => void) => Promise<void>;
  /** Providers that have just failed it: any other one is better. */
  readonly tried?: readonly string[] | undefined;
}

/** Decides whether the next of those that want through it may start. */
export abstract class Gate<Pass> {
  /** By queue and rank: a queue without room does not hold up another one. */
  readonly #parked = new Map<FairQueue<Pass>, readonly LinkedList<Lane<Pass>>[]>();
  #waiting = 0;

  /** Lets one through, or nobody. A gate that lets nobody through calls `wake` when that changes. */
  abstract enter(next: Queued<Pass>): Pass | undefined;

  /** Whether somebody waits here for the gate to open. */
  get isAwaited(): boolean {
    return this.#waiting > 0;
  }

  /** Calls the first lane of each priority, which takes its turns again. When it has its turn, it brings the next one. */
  wake(): void {
    if (this.#waiting === 0) return;
    for (const [queue, lanes] of this.#parked)
      for (const parked of lanes) {
        for (let isCalled = false; !isCalled && parked.first; ) {
          const lane = parked.first;
          this.unpark(lane);
          isCalled = queue.goOn(lane);
        }
      }
  }

  /** For the queue. */
  park(lane: Lane<Pass>): void {
    const { queue, rank } = lane.line;
    let lanes = this.#parked.get(queue);
    if (!lanes) {
      lanes = RANKS.map(() => new LinkedList());
      this.#parked.set(queue, lanes);
    }
    (lanes[rank] as LinkedList<Lane<Pass>>).push(lane);
    lane.isParked = true;
    this.#waiting++;
  }

  /** For the queue: a lane that is parked here has nothing waiting any more. */
  unpark(lane: Lane<Pass>): void {
    lane.list?.remove(lane);
    lane.isParked = false;
    this.#waiting--;
  }
}

/** One that waits for its turn. */
export class Ticket<Pass> extends Linked<Ticket<Pass>> {
  readonly queued: Queued<Pass>;
  readonly account: Account<Pass>;
  /** Where it waits; none once it has started or was withdrawn. */
  lane: Lane<Pass> | undefined = undefined;

  constructor(queued: Queued<Pass>, account: Account<Pass>) {
    super();
    this.queued = queued;
    this.account = account;
  }
}

/** All of one priority and one organization that want through one gate. */
class Lane<Pass> extends Linked<Lane<Pass>> {
  readonly line: Line<Pass>;
  readonly gate: Gate<Pass>;
  readonly tickets = new LinkedList<Ticket<Pass>>();
  /** It waits at its gate instead of taking its turns. */
  isParked = false;

  constructor(line: Line<Pass>, gate: Gate<Pass>) {
    super();
    this.line = line;
    this.gate = gate;
  }
}

/** All of one priority and one organization. */
class Line<Pass> extends Linked<Line<Pass>> {
  readonly queue: FairQueue<Pass>;
  readonly account: Account<Pass>;
  readonly rank: number;
  /** Lanes that take their turns. */
  readonly lanes = new LinkedList<Lane<Pass>>();
  /** These, and those that wait at their gates. */
  readonly byGate = new Map<Gate<Pass>, Lane<Pass>>();
  /** Lanes that their gates have called and that have not had their turn yet. */
  readonly called = new Set<Lane<Pass>>();

  constructor(queue: FairQueue<Pass>, account: Account<Pass>, rank: number) {
    super();
    this.queue = queue;
    this.account = account;
    this.rank = rank;
  }
}

/** What one organization has waiting and under way. */
class Account<Pass> {
  readonly organizationId: string;
  readonly lines: (Line<Pass> | undefined)[] = [undefined, undefined, undefined, undefined];
  /** Lines that have come up while enough of the organization was under way. */
  readonly heldBack = new LinkedList<Line<Pass>>();
  waiting = 0;
  running = 0;

  constructor(organizationId: string) {
    this.organizationId = organizationId;
  }
}

export interface Started<Pass> {
  readonly ticket: Ticket<Pass>;
  readonly pass: Pass;
}

export class FairQueue<Pass> {
  readonly #mostOfOne: number;
  readonly #onReady: () => void;
  /** Lines that take their turns, by rank. */
  readonly #ready = RANKS.map(() => new LinkedList<Line<Pass>>());
  readonly #credits = [...weightOf];
  readonly #accounts = new Map<string, Account<Pass>>();
  #waiting = 0;

  /**
   * @param mostOfOne how many of one organization may be under way
   * @param onReady something may start that could not before
   */
  constructor(mostOfOne: number, onReady: () => void) {
    this.#mostOfOne = mostOfOne;
    this.#onReady = onReady;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** What nobody waits before may start at once, and has a pass then; else it waits for its turn. */
  add(queued: Queued<Pass>, mayStart: boolean): { readonly ticket: Ticket<Pass>; readonly pass: Pass | undefined } {
    const { organizationId, priority, gate } = queued;
    let account = this.#accounts.get(organizationId);
    if (!account) {
      account = new Account(organizationId);
      this.#accounts.set(organizationId, account);
    }
    const ticket = new Ticket(queued, account);
    const isFirst = mayStart && this.#isIdle() && !gate.isAwaited && account.running < this.#mostOfOne;
    const pass = isFirst ? gate.enter(queued) : undefined;
    if (pass !== undefined) account.running++;
    else this.#wait(ticket, RANK[priority], gate);
    return { ticket, pass };
  }

  /** The next one; undefined when nothing can start now. */
  next(): Started<Pass> | undefined {
    for (let rank = this.#rank(); rank !== undefined; rank = this.#rank()) {
      const ready = this.#ready[rank] as LinkedList<Line<Pass>>;
      const line = ready.shift() as Line<Pass>;
      const { account } = line;
      if (account.running >= this.#mostOfOne) {
        this.#holdBack(line);
        continue;
      }
      const started = this.#startOf(line);
      if (line.lanes.length > 0) ready.push(line);
      if (!started) continue;
      (this.#credits[rank] as number)--;
      return started;
    }
    return undefined;
  }

  /** One that was started has ended. */
  ended({ account }: Ticket<Pass>): void {
    account.running--;
    for (let line = account.heldBack.shift(); line; line = account.heldBack.shift())
      (this.#ready[line.rank] as LinkedList<Line<Pass>>).push(line);
    this.#forget(account);
  }

  /** @returns false when it has started, or was withdrawn before */
  withdraw(ticket: Ticket<Pass>): boolean {
    const { lane } = ticket;
    if (!lane) return false;
    this.#leave(ticket, lane);
    if (lane.tickets.length > 0) return true;
    const { line, gate } = lane;
    if (lane.isParked) gate.unpark(lane);
    else {
      line.lanes.remove(lane);
      line.called.delete(lane);
      if (line.lanes.length === 0) line.list?.remove(line);
      // Those parked at the gate counted on this lane to go first.
      gate.wake();
    }
    this.#close(lane);
    return true;
  }

  /**
   * For gates: the lane takes its turns again.
   *
   * @returns false when its organization has none for now, so that another lane should be called
   */
  goOn(lane: Lane<Pass>): boolean {
    this.#takeTurns(lane);
    if (lane.line.list === lane.line.account.heldBack) return false;
    lane.line.called.add(lane);
    this.#onReady();
    return true;
  }

  /** No turns for it until one of its organization has ended; whoever waits behind its lanes at a gate does not wait. */
  #holdBack(line: Line<Pass>): void {
    line.account.heldBack.push(line);
    const called = [...line.called];
    line.called.clear();
    for (const { gate } of called) gate.wake();
  }

  #isIdle(): boolean {
    return this.#ready.every(({ length }) => length === 0);
  }

  #wait(ticket: Ticket<Pass>, rank: number, gate: Gate<Pass>): void {
    const { account } = ticket;
    let line = account.lines[rank];
    if (!line) {
      line = new Line(this, account, rank);
      account.lines[rank] = line;
    }
    let lane = line.byGate.get(gate);
    if (!lane) {
      lane = new Lane(line, gate);
      line.byGate.set(gate, lane);
      this.#takeTurns(lane);
    }
    ticket.lane = lane;
    lane.tickets.push(ticket);
    account.waiting++;
    this.#waiting++;
  }

  #takeTurns(lane: Lane<Pass>): void {
    const { line } = lane;
    line.lanes.push(lane);
    if (!line.list) (this.#ready[line.rank] as LinkedList<Line<Pass>>).push(line);
  }

  /** The most urgent with something waiting and starts left in this round; a round ends when there is none. */
  #rank(): number | undefined {
    let rank = RANKS.find((each) => this.#hasReady(each) && (this.#credits[each] as number) > 0);
    if (rank !== undefined) return rank;
    rank = RANKS.find((each) => this.#hasReady(each));
    if (rank !== undefined) for (const each of RANKS) this.#credits[each] = weightOf[each] as number;
    return rank;
  }

  #hasReady(rank: number): boolean {
    return (this.#ready[rank] as LinkedList<Line<Pass>>).length > 0;
  }

  #startOf(line: Line<Pass>): Started<Pass> | undefined {
    for (let lane = line.lanes.shift(); lane; lane = line.lanes.shift()) {
      const { gate, tickets } = lane;
      const ticket = tickets.first as Ticket<Pass>;
      line.called.delete(lane);
      const pass = gate.enter(ticket.queued);
      if (pass === undefined) {
        gate.park(lane);
        continue;
      }
      line.account.running++;
      this.#leave(ticket, lane);
      if (tickets.length > 0) line.lanes.push(lane);
      else this.#close(lane);
      gate.wake();
      return { ticket, pass };
    }
    return undefined;
  }

  #leave(ticket: Ticket<Pass>, lane: Lane<Pass>): void {
    lane.tickets.remove(ticket);
    ticket.lane = undefined;
    ticket.account.waiting--;
    this.#waiting--;
  }

  /** Nothing is left in it. */
  #close({ line, gate }: Lane<Pass>): void {
    line.byGate.delete(gate);
    if (line.byGate.size > 0) return;
    line.account.lines[line.rank] = undefined;
    this.#forget(line.account);
  }

  #forget(account: Account<Pass>): void {
    if (account.waiting === 0 && account.running === 0) this.#accounts.delete(account.organizationId);
  }
}
