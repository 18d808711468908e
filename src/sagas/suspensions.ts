import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { Instant } from '../domain/vocabulary.js';
import { type EventCodec, UndecodableEvent } from '../event-store/codec.js';
import type { EventReader, RecordedEvent } from '../event-store/event-store.js';
import { react } from './delivery-process.js';
import type { EngineLog } from './engine-log.js';
import type { Process, ProcessTable } from './process-table.js';
import type { Trouble } from './suspension-store.js';

/** Pauses before another try with a delivery whose process has thrown; after the last of them it is suspended. */
export const TRY_AGAIN_AFTER_MS: readonly number[] = [1_000, 5_000, 25_000];

/** What an operator records to have a suspended delivery tried again. */
const ENCOURAGING = new Set<string>(['ProcessResumed', 'EventSkipped'] satisfies DeliveryEvent['type'][]);

export interface SuspensionPorts {
  readonly processes: ProcessTable;
  readonly codec: EventCodec;
  readonly readStream: EventReader['readStream'];
  /** Unix milliseconds, by the clock that timers are of. */
  readonly nowMs: () => number;
  /** Has `tryAgain` called at that time. */
  readonly wakeAt: (process: Process, atMs: number) => void;
  readonly log: EngineLog;
  /** It can be acted upon again. */
  readonly onRecovered: (process: Process) => void;
}

/**
 * Deliveries whose process has thrown: an event that cannot be understood, or a defect in what follows from their
 * state. Nothing is folded into them and nothing is done for them, while all others go on. Each is tried again from its
 * stream after a pause, a few times, then when its stream grows: an operator's word is an event too.
 */
export class Suspensions {
  readonly #ports: SuspensionPorts;
  readonly #pausesMs: readonly number[];
  readonly #suspended = new Set<Process>();
  /** Being tried, and whether something has come up meanwhile that asks for one more try. */
  readonly #trying = new Map<Process, boolean>();

  constructor(ports: SuspensionPorts, pausesMs: readonly number[] = TRY_AGAIN_AFTER_MS) {
    this.#ports = ports;
    this.#pausesMs = pausesMs;
  }

  /** How many are not tried again by themselves. */
  get count(): number {
    return this.#suspended.size;
  }

  /** @param recorded where it happened; what was folded last when there is none */
  thrown(process: Process, error: unknown, recorded?: RecordedEvent): void {
    const attempts = (process.trouble?.attempts ?? 0) + 1;
    const isLast = attempts > this.#pausesMs.length;
    const suspendedAt = process.trouble?.suspendedAt ?? (isLast ? this.#now() : undefined);
    process.trouble = {
      position: recorded?.position ?? 0n,
      revision: recorded?.revision ?? process.revision,
      eventType: recorded?.type ?? '',
      organizationId: recorded?.metadata.organizationId ?? '',
      error: (error as Error).message,
      attempts,
      ...(suspendedAt !== undefined && { suspendedAt }),
    };
    this.#ports.processes.touch(process);
    this.#goOn(process, process.trouble, error);
  }

  /** An event of a delivery in trouble: whoever wrote it may have mended it. */
  offered(process: Process, recorded: RecordedEvent): void {
    const isNews = recorded.revision > (process.trouble?.revision ?? -1);
    if (isNews && (process.trouble?.suspendedAt !== undefined || ENCOURAGING.has(recorded.type)))
      void this.tryAgain(process);
  }

  /** Never rejects. One try at a time; a call while one is under way has another follow it. */
  async tryAgain(process: Process): Promise<void> {
    if (this.#trying.has(process)) {
      this.#trying.set(process, true);
      return;
    }
    do {
      this.#trying.set(process, false);
      await this.#try(process);
    } while (this.#trying.get(process));
    this.#trying.delete(process);
  }

  forget(process: Process): void {
    this.#suspended.delete(process);
  }

  async #try(process: Process): Promise<void> {
    const { processes, codec, readStream, nowMs, wakeAt, log, onRecovered } = this.#ports;
    let stream: RecordedEvent[];
    try {
      stream = await readStream(`delivery-${process.id}`);
    } catch (error) {
      // That is the log's trouble, not the delivery's.
      log.warn('a delivery cannot be read again yet', { deliveryId: process.id, err: error });
      wakeAt(process, nowMs() + (this.#pausesMs[0] ?? 0));
      return;
    }
    // A slow answer may lack what was folded since the process is out of its trouble.
    if (processes.get(process.id) !== process || (stream.at(-1)?.revision ?? -1) < process.revision) return;
    try {
      processes.refold(process, stream, codec);
      react(process.state, this.#now(), (leg) => process.busy.has(leg));
    } catch (error) {
      this.thrown(process, error, error instanceof UndecodableEvent ? error.recorded : stream.at(-1));
      return;
    }
    if (process.trouble) log.info('a delivery goes on after its process had thrown', { deliveryId: process.id });
    process.trouble = undefined;
    // Those who began to wait for it meanwhile could not read how it is.
    process.isTold = false;
    this.#suspended.delete(process);
    processes.touch(process);
    onRecovered(process);
  }

  #goOn(process: Process, { position, eventType, attempts, suspendedAt }: Trouble, error: unknown): void {
    const { nowMs, wakeAt, log } = this.#ports;
    const subject = { deliveryId: process.id, position: position.toString(), eventType, attempts, err: error };
    if (suspendedAt === undefined) {
      log.warn('the process of a delivery has thrown; it will be tried again', subject);
      wakeAt(process, nowMs() + (this.#pausesMs[attempts - 1] as number));
    } else {
      log.error('a delivery is suspended: an operator has to resume it', subject);
      this.#suspended.add(process);
    }
  }

  #now(): Instant {
    return new Date(this.#ports.nowMs()).toISOString();
  }
}
