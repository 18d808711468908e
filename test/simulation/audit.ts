import { holdsOf } from '../../src/domain/delivery-status.js';
import { PARTITIONS } from '../../src/sagas/engine-store.js';
import { type Case, stateOf } from './cases.js';
import type { Instance } from './instance.js';
import type { Judge } from './judge.js';
import { type Outlook, outlookOf } from './outlook.js';
import type { SimulatedDatabase } from './simulated-database.js';
import { EPOCH_MS } from './virtual-globals.js';
import type { Witness } from './witness.js';

/** In calm weather what is due is done within this, ms: leases run out, providers keep silent, the engine looks again. */
const LONGEST_IDLE_MS = 45_000;

export interface AuditParts {
  readonly judge: Judge;
  readonly database: SimulatedDatabase;
  readonly witness: Witness;
}

/** Codes of failures that a provider had a part in. */
const PROVIDERS_SAY: ReadonlySet<string> = new Set(['', 'REFUSED', 'NO_ANSWER']);

/** What must be true of the whole once the faults are over. */
export class Audit {
  readonly #parts: AuditParts;

  constructor(parts: AuditParts) {
    this.#parts = parts;
  }

  /**
   * Whether nothing more will happen by itself. Fails when something should have.
   *
   * @param calmSinceMs virtual time since which nothing has been wrong
   */
  isSettled(calmSinceMs: number, nowMs: number): boolean {
    const { cases } = this.#parts.judge;
    const lastMs = [...cases.values()].flatMap((found) => [found.lastEventMs, ...lastCall(found)]);
    const idleSinceMs = Math.max(calmSinceMs, ...lastMs);
    let isSettled = true;
    for (const found of cases.values()) {
      const outlook = this.#outlookOf(found);
      if (outlook.is === 'over' || outlook.is === 'waiting for people') continue;
      isSettled = false;
      if (outlook.is !== 'due') continue;
      const sinceMs = Math.max(idleSinceMs, outlook.sinceMs - this.#aheadMs(nowMs));
      if (nowMs - sinceMs > LONGEST_IDLE_MS)
        this.#parts.witness.fail('all end', `${found.name}: ${outlook.what}, but nothing happens`);
    }
    return isSettled;
  }

  /** The end of a history in which nothing is left to do. */
  check(instances: readonly Instance[]): void {
    for (const found of this.#parts.judge.cases.values()) {
      this.#checkVisible(found);
      this.#checkAttempts(found);
      this.#checkAcceptances(found);
    }
    this.#checkTable();
    this.#checkShares(instances);
    this.#checkMemory(instances);
  }

  /** Unix milliseconds by the database at virtual time 0. */
  #aheadMs(nowMs: number): number {
    return this.#parts.database.nowMs - nowMs;
  }

  #outlookOf(found: Case): Outlook {
    const { judge, database } = this.#parts;
    if (found.isPoisoned) return { is: 'due', sinceMs: 0, what: 'it holds what nobody understands' };
    return outlookOf(stateOf(found), database.nowMs, (id) => {
      const other = judge.cases.get(id);
      return other ? stateOf(other) : { tag: 'absent' };
    });
  }

  #checkVisible(found: Case): void {
    const state = stateOf(found);
    if (state.tag === 'absent') return;
    const isWaiting = this.#outlookOf(found).is === 'waiting for people';
    if (isWaiting && holdsOf(state).length === 0)
      this.#parts.witness.fail('all end', `${found.name} waits, and does not show for what`);
  }

  #checkAttempts(found: Case): void {
    const state = stateOf(found);
    if (state.tag === 'absent') return;
    for (const { leg, progress } of state.legs)
      if (progress.tag === 'attempting') {
        const what = `attempt ${progress.attempt.number} of leg ${leg} has no outcome, and nobody is told`;
        this.#parts.witness.fail('doubts are shown', `${found.name}: ${what}; the delivery is ${state.tag}`);
      }
  }

  /** What a provider has done is recorded, or in doubt, or was asked for again under the same key. */
  #checkAcceptances(found: Case): void {
    const { recorded } = this.#parts.judge.rules;
    const state = stateOf(found);
    const isEnded = state.tag === 'ended';
    // Nothing is recorded before a call that can be repeated; when it could not be repeated, nobody knows of it.
    const isHindered = (number: number) =>
      state.tag !== 'absent' && !PROVIDERS_SAY.has(state.legs.find(({ leg }) => leg === number)?.failure?.code ?? '');
    for (const { call, leg, attempt } of found.calls) {
      if (!call.isAccepted || Object.values(recorded).some((calls) => calls.has(call.number))) continue;
      const isAgain = found.calls.some((each) => each.call !== call && each.call.key === call.key);
      const isExplained =
        attempt === undefined ? isAgain || isEnded || isHindered(leg) : found.doubts.has(`${leg}/${attempt}`);
      if (!isExplained)
        this.#parts.witness.fail('receipts agree', `${found.name}: call ${call.number} was accepted, and that is lost`);
    }
  }

  #checkTable(): void {
    const { judge, database } = this.#parts;
    for (const found of judge.cases.values()) {
      const row = database.rows.get(found.id);
      const outlook = this.#outlookOf(found);
      if (outlook.is === 'over') {
        if (row) this.#parts.witness.fail('table is as the log', `${found.name} has ended and still has a row`);
        continue;
      }
      const state = stateOf(found);
      const awaits = state.tag === 'held' ? state.holds.dependencies : [];
      const expected = outlook.is === 'waiting for time' ? outlook.untilMs : undefined;
      const isSame = row && row.dueAtMs === expected && [...row.awaits].sort().join() === [...awaits].sort().join();
      if (!isSame) {
        const told = row ? `due ${timeOf(row.dueAtMs)}, awaits ${row.awaits.length}` : 'no row';
        const wanted = `due ${timeOf(expected)}, awaits ${awaits.length}`;
        this.#parts.witness.fail('table is as the log', `${found.name}: ${told} instead of ${wanted}`);
      }
    }
    for (const id of database.rows.keys())
      if (!judge.cases.has(id))
        this.#parts.witness.fail('table is as the log', `there is a row for ${id}, which does not exist`);
  }

  #checkShares(instances: readonly Instance[]): void {
    const share = Math.ceil(PARTITIONS / instances.length);
    const counts = new Map(instances.map(({ host }) => [host, 0]));
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const holder = this.#parts.database.holderOf(partition);
      const count = holder && counts.get(holder);
      if (!holder || count === undefined)
        this.#parts.witness.fail('work is shared', `partition ${partition} is ${holder?.name ?? 'nobody'}’s`);
      else counts.set(holder, count + 1);
    }
    for (const [host, count] of counts)
      if (count > share)
        this.#parts.witness.fail(
          'work is shared',
          `${host.name} has ${count} of ${PARTITIONS} partitions, not ${share}`,
        );
  }

  #checkMemory(instances: readonly Instance[]): void {
    const open = [...this.#parts.judge.cases.values()].filter((found) => this.#outlookOf(found).is !== 'over');
    for (const { engine, host } of instances) {
      const { inMemory, attempting, waiting, suspended, state } = engine.status();
      if (inMemory > open.length)
        this.#parts.witness.fail(
          'steady work',
          `${host.name} has ${inMemory} deliveries in memory of ${open.length} open ones`,
        );
      if (attempting + waiting > 0 || suspended > 0 || state !== 'running')
        this.#parts.witness.fail(
          'steady work',
          `${host.name} is ${state} with ${attempting} attempts and ${suspended} suspended`,
        );
    }
  }
}

const lastCall = ({ calls }: Case): number[] => calls.slice(-1).map(({ call }) => call.atMs);

const timeOf = (ms: number | undefined): string =>
  ms === undefined ? 'never' : `${((ms - EPOCH_MS) / 1_000).toFixed(3)} s`;
