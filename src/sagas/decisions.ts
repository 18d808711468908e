import type { ExecuteResult, Order } from '../commands/executor.js';
import { eventId } from '../commands/ids.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { UndecodableEvent } from '../event-store/codec.js';
import type { EventReader } from '../event-store/event-store.js';
import type { EngineLog } from './engine-log.js';
import { pause } from './pause.js';
import type { Process } from './process-table.js';

/** Between tries to store a decision while the log does not answer; doubles up to the longest. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;

export type SendOrder = (
  order: Order<DeliveryState, DeliveryCommand>,
) => Promise<ExecuteResult<DeliveryState, DeliveryEvent>>;

export interface DecisionPorts {
  readonly order: SendOrder;
  readonly readStream: EventReader['readStream'];
  /** The delivery as the engine knows it, read from the log if it is not in memory. */
  readonly processOf: (id: string) => Promise<Process>;
  readonly log: EngineLog;
  /** Whether the delivery is this instance's: not now perhaps, but nobody else's either. */
  readonly isOurs: (id: string) => boolean;
  /** Whether anything may be stored for it now. */
  readonly mayStore: (id: string) => boolean;
  /** Ends the waiting for a log that does not answer. */
  readonly signal: AbortSignal;
}

/** How what the engine has decided gets into the log: again and again until it is stored, refused, or the engine stops. */
export class Decisions {
  readonly #ports: DecisionPorts;

  constructor(ports: DecisionPorts) {
    this.#ports = ports;
  }

  /**
   * @param commandId the same for each try of one decision, so that it is stored once
   * @returns true when it changed the delivery; false also when the delivery has become another instance's, or holds
   *   what cannot be understood: what was decided is decided again, on what is true then, when it goes on
   * @throws when the engine stops before the decision is stored
   */
  async store(id: string, command: DeliveryCommand, commandId: string): Promise<boolean> {
    const { order, processOf, isOurs, mayStore, log, signal } = this.#ports;
    if (!isOurs(id)) return false;
    const process = await processOf(id);
    const { state } = process;
    if (process.trouble) return false;
    if (state.tag === 'absent') throw new Error(`delivery ${id} is decided upon, but was never requested`);
    const { organizationId, correlationId } = state.request;
    const envelope = { organizationId, commandId, actor: 'engine', ...(correlationId && { correlationId }) };
    const subject = { deliveryId: id, command: command.type };
    let mayBeStored = false;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      if (!isOurs(id)) return false;
      if (!mayStore(id)) {
        signal.throwIfAborted();
        await pause(pauseMs, signal);
        continue;
      }
      try {
        const known = { state: process.state, revision: process.revision };
        const result = await order({ id, command, envelope, known, mayAppend: () => mayStore(id) });
        // A refusal may only mean that the lease was in doubt.
        if (!result.ok && !mayStore(id)) continue;
        const isNews = result.ok && result.position !== undefined;
        if (!isNews && mayBeStored && (await this.#isStored(process, commandId))) return true;
        if (!result.ok) {
          const { code, message } = result.rejection;
          log.warn('a delivery refused a decision', { ...subject, code, message });
          return false;
        }
        process.decided = Math.max(process.decided, result.revision ?? -1);
        return isNews;
      } catch (error) {
        if (signal.aborted) throw error;
        mayBeStored = true;
        if (error instanceof UndecodableEvent) {
          log.warn('a decision was given up: the delivery cannot be understood', { ...subject, err: error });
          return false;
        }
        log.warn('a decision could not be stored yet', { ...subject, err: error });
        // Ends early, and quietly, when the engine stops: the next try is then the last.
        await pause(pauseMs, signal);
      }
    }
  }

  /** Whether an earlier try, of which nothing was heard, was carried out: what it has led to refuses the next one. */
  async #isStored(process: Process, commandId: string): Promise<boolean> {
    const stream = await this.#ports.readStream(`delivery-${process.id}`);
    const stored = stream.findLast(({ id }) => id === eventId(commandId, 0));
    if (stored) process.decided = Math.max(process.decided, stored.revision);
    return stored !== undefined;
  }
}
