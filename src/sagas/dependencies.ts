import { derivedId } from '../commands/ids.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import type { SendOrder } from './decisions.js';
import { dependencyOutcome } from './delivery-process.js';
import type { Process, ProcessTable } from './process-table.js';

export interface DependenciesParts {
  readonly processes: ProcessTable;
  /** Whether the delivery is this instance's. */
  readonly isOurs: (deliveryId: string) => boolean;
  readonly hasAll: () => boolean;
  readonly load: (deliveryId: string) => Promise<Process>;
  /** How a delivery is, whosever it is. */
  readonly stateOf: (deliveryId: string) => Promise<DeliveryState>;
  readonly decide: (deliveryId: string, command: DeliveryCommand, commandId: string) => Promise<unknown>;
  /** The same for a delivery of another instance. */
  readonly order: SendOrder;
  readonly inBackground: (deliveryId: string, work: () => Promise<unknown>) => Promise<void>;
  /** Lets go of a process that was only looked at. */
  readonly drop: (process: Process) => void;
  readonly now: () => string;
}

/** Deliveries that wait until others have ended, be those this instance's or another's. */
export class Dependencies {
  readonly #parts: DependenciesParts;

  constructor(parts: DependenciesParts) {
    this.#parts = parts;
  }

  /** From now on the waiter hears of the end; at once, when that has been. */
  awaitEnd(waiter: string, dependency: string): void {
    const { processes, inBackground } = this.#parts;
    if (processes.isWaiting(waiter, dependency)) return;
    processes.startWaiting(waiter, dependency);
    void inBackground(waiter, () => this.#lookAt(waiter, dependency));
  }

  /** It waits for nothing any more. */
  forget({ id, state }: Process): void {
    if (state.tag === 'absent') return;
    for (const dependency of state.request.dependsOn ?? []) this.#parts.processes.stopWaiting(id, dependency);
  }

  /** Tells those who wait for it here, when it has ended. */
  tell({ id, state }: Process): void {
    for (const waiter of this.#parts.processes.waitersOf(id)) this.#resolve(waiter, id, state);
  }

  /**
   * Tells one who waits for it with another instance, when it has ended: what is decided follows from the log alone, so
   * anybody may write it down.
   */
  async tellElsewhere(waiter: string, dependency: string): Promise<void> {
    const { processes, stateOf, order, now } = this.#parts;
    const state = processes.get(dependency)?.state ?? (await stateOf(dependency));
    const outcome = dependencyOutcome(state);
    if (!outcome || state.tag === 'absent') return;
    const { organizationId } = state.request;
    await order({
      id: waiter,
      command: { type: 'ResolveDependency', now: now(), deliveryId: dependency, ...outcome },
      envelope: { organizationId, commandId: commandIdOf(waiter, dependency), actor: 'engine' },
    });
  }

  /**
   * What it depends on may be another instance's, which looks for waiting rows when that has ended. If it did so before
   * there was one, the end is in the log by now.
   */
  lookAgain(process: Process): void {
    const { hasAll, isOurs, inBackground, stateOf } = this.#parts;
    if (process.hasLookedAgain || process.state.tag !== 'held' || hasAll()) return;
    process.hasLookedAgain = true;
    for (const dependency of process.state.holds.dependencies) {
      if (isOurs(dependency)) continue;
      void inBackground(process.id, async () => this.#resolve(process.id, dependency, await stateOf(dependency)));
    }
  }

  async #lookAt(waiter: string, dependency: string): Promise<void> {
    const { processes, isOurs, load, stateOf, drop } = this.#parts;
    if (!isOurs(dependency)) {
      this.#resolve(waiter, dependency, await stateOf(dependency));
      return;
    }
    const process = processes.get(dependency) ?? (await load(dependency));
    // One in trouble may turn out to have ended otherwise.
    if (!process.trouble) this.#resolve(waiter, dependency, process.state);
    drop(process);
  }

  #resolve(waiter: string, dependency: string, state: DeliveryState): void {
    const { processes, inBackground, decide, now } = this.#parts;
    const outcome = dependencyOutcome(state);
    if (!outcome) return;
    processes.stopWaiting(waiter, dependency);
    const command = { type: 'ResolveDependency', now: now(), deliveryId: dependency, ...outcome } as const;
    void inBackground(waiter, () => decide(waiter, command, commandIdOf(waiter, dependency)));
  }
}

const commandIdOf = (waiter: string, dependency: string): string => derivedId(waiter, `dependency/${dependency}`);
