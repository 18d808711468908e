import { type DataSubjectCommand, type DataSubjectState, dataSubject } from '../domain/data-subject.js';
import { badInput } from '../domain/rejection.js';
import type { Channel, Instant } from '../domain/vocabulary.js';
import type { CommandExecutor, Refused } from './executor.js';
import { newId, subjectId } from './ids.js';
import type { Requester, SubjectNames } from './intake.js';

/** Whom it is about. */
export interface Recipient {
  readonly channel: Channel;
  readonly address: string;
}

/** A living key, and since when there is one. */
export interface KeyOnRecord {
  readonly id: string;
  readonly createdAt: Instant;
}

export interface DataSubjectParts {
  readonly executor: CommandExecutor;
  readonly subjects: SubjectNames;
  /** What is wrong with an address, or undefined. */
  readonly addressProblem: (channel: Channel, address: string) => string | undefined;
  /** The living keys of a person, those that are shared with others included. */
  readonly keysOf: (subject: string) => Promise<readonly KeyOnRecord[]>;
  /** Wherever they are kept, and for ever. */
  readonly destroy: (keys: readonly string[], subject: string, organizationId: string) => Promise<void>;
  /** Deliveries to the person that have not ended. */
  readonly openDeliveries: (subject: string, organizationId: string) => Promise<readonly string[]>;
  readonly cancel: (deliveryId: string, requester: Requester) => Promise<void>;
}

export interface Erased {
  readonly ok: true;
  readonly subject: string;
  /** Undefined when nothing was held. */
  readonly position: bigint | undefined;
  readonly keysDestroyed: number;
  readonly deliveriesCancelled: number;
}

export interface SubjectReport extends DataSubjectState {
  readonly subject: string;
  readonly keys: readonly KeyOnRecord[];
}

type Held = { readonly ok: true; readonly position: bigint | undefined; readonly state: DataSubjectState };

const MAX_REASON = 500;

/** What persons are owed: to know what is held about them, and to be forgotten. */
export class DataSubjects {
  readonly #parts: DataSubjectParts;

  constructor(parts: DataSubjectParts) {
    this.#parts = parts;
  }

  /**
   * Forgets a person. The event comes first: from then on every instance, now or after any restart, destroys the keys, so
   * a crash half-way cannot leave them alive. Asked again, it does what is left to do.
   */
  async erase(recipient: Recipient, reason: string, requester: Requester): Promise<Erased | Refused> {
    const found = this.#subject(recipient, requester.organizationId, reason);
    if (typeof found !== 'string') return found;
    const { organizationId } = requester;
    const keys = (await this.#parts.keysOf(found)).map(({ id }) => id);
    const open = await this.#parts.openDeliveries(found, organizationId);
    const result = await this.#order(found, { type: 'Erase', organizationId, keys }, reason, requester);
    if (!result.ok) return result;
    if (keys.length > 0) await this.#parts.destroy(keys, found, organizationId);
    for (const id of open) await this.#parts.cancel(id, requester);
    const counts = { keysDestroyed: keys.length, deliveriesCancelled: open.length };
    return { ok: true, subject: found, position: result.position, ...counts };
  }

  async placeHold(recipient: Recipient, reason: string, requester: Requester): Promise<Held | Refused> {
    const found = this.#subject(recipient, requester.organizationId, reason);
    return typeof found === 'string' ? await this.#order(found, { type: 'PlaceLegalHold' }, reason, requester) : found;
  }

  async releaseHold(recipient: Recipient, reason: string, requester: Requester): Promise<Held | Refused> {
    const found = this.#subject(recipient, requester.organizationId, reason);
    return typeof found === 'string'
      ? await this.#order(found, { type: 'ReleaseLegalHold' }, reason, requester)
      : found;
  }

  async report(recipient: Recipient, organizationId: string): Promise<({ ok: true } & SubjectReport) | Refused> {
    const subject = this.#subject(recipient, organizationId);
    if (typeof subject !== 'string') return subject;
    const { state } = await this.#parts.executor.load(dataSubject, subjectId(subject));
    return { ok: true, subject, keys: await this.#parts.keysOf(subject), ...state };
  }

  /** The name of a person of the organization, to look for. */
  find(recipient: Recipient, organizationId: string): { readonly ok: true; readonly subject: string } | Refused {
    const subject = this.#subject(recipient, organizationId);
    return typeof subject === 'string' ? { ok: true, subject } : subject;
  }

  #subject({ channel, address }: Recipient, organizationId: string, reason?: string): string | Refused {
    const problem = this.#parts.addressProblem(channel, address);
    if (problem) return badInput([{ path: 'recipient.address', problem }]);
    if (reason !== undefined && (reason.trim() === '' || reason.length > MAX_REASON))
      return badInput([{ path: 'reason', problem: `must have from 1 to ${MAX_REASON} characters` }]);
    const subject = this.#parts.subjects.person(organizationId, channel, address);
    return subject ?? badInput([{ path: 'recipient.channel', problem: 'has addresses that are no person’s' }]);
  }

  async #order(
    subject: string,
    command: Pick<DataSubjectCommand, 'type'> & { readonly organizationId?: string; readonly keys?: readonly string[] },
    reason: string,
    { actor, organizationId, traceparent }: Requester,
  ): Promise<Held | Refused> {
    const envelope = { organizationId, commandId: newId(), actor, ...(traceparent !== undefined && { traceparent }) };
    const asked = { now: new Date().toISOString(), subject, by: actor, reason };
    return await this.#parts.executor.execute(dataSubject, {
      id: subjectId(subject),
      command: { ...command, ...asked } as DataSubjectCommand,
      envelope,
    });
  }
}
