import { type Decision, record, reject } from './rejection.js';
import type { Instant } from './vocabulary.js';

/** A person whose data is held, by the name that tells nobody who it is. */

interface Fact<Type extends string, Data> {
  readonly type: Type;
  readonly at: Instant;
  readonly data: Data;
}

export type DataSubjectEvent =
  /** Nothing that was sealed with these keys can be read from now on; whoever has one destroys it. */
  | Fact<
      'SubjectErased',
      {
        readonly organizationId: string;
        readonly subject: string;
        readonly keys: readonly string[];
        readonly by: string;
        readonly reason: string;
      }
    >
  | Fact<'LegalHoldPlaced', { readonly subject: string; readonly by: string; readonly reason: string }>
  | Fact<'LegalHoldReleased', { readonly subject: string; readonly by: string; readonly reason: string }>;

export interface LegalHold {
  readonly by: string;
  readonly reason: string;
  readonly at: Instant;
}

export interface DataSubjectState {
  /** While there is one, nothing is erased or disposed of. */
  readonly legalHold?: LegalHold;
  /** The last time. */
  readonly erasedAt?: Instant;
}

interface Asked {
  readonly now: Instant;
  readonly subject: string;
  readonly by: string;
  readonly reason: string;
}

export type DataSubjectCommand =
  | ({ readonly type: 'Erase'; readonly organizationId: string; readonly keys: readonly string[] } & Asked)
  | ({ readonly type: 'PlaceLegalHold' } & Asked)
  | ({ readonly type: 'ReleaseLegalHold' } & Asked);

export function decide(command: DataSubjectCommand, { legalHold }: DataSubjectState): Decision<DataSubjectEvent> {
  const { now, subject, by, reason } = command;
  switch (command.type) {
    case 'Erase': {
      if (legalHold) return reject('CONFLICT', `a legal hold of ${legalHold.at} forbids it: ${legalHold.reason}`);
      const { organizationId, keys } = command;
      // Nothing is held, so there is nothing to forget.
      if (keys.length === 0) return record();
      return record({ type: 'SubjectErased', at: now, data: { organizationId, subject, keys, by, reason } });
    }
    case 'PlaceLegalHold':
      if (legalHold) return reject('CONFLICT', 'there is a legal hold already');
      return record({ type: 'LegalHoldPlaced', at: now, data: { subject, by, reason } });
    case 'ReleaseLegalHold':
      if (!legalHold) return reject('CONFLICT', 'there is no legal hold');
      return record({ type: 'LegalHoldReleased', at: now, data: { subject, by, reason } });
  }
}

export function evolve(state: DataSubjectState, event: DataSubjectEvent): DataSubjectState {
  const { legalHold, erasedAt } = state;
  switch (event.type) {
    case 'SubjectErased':
      return { ...(legalHold && { legalHold }), erasedAt: event.at };
    case 'LegalHoldPlaced':
      return { ...state, legalHold: { by: event.data.by, reason: event.data.reason, at: event.at } };
    case 'LegalHoldReleased':
      return erasedAt === undefined ? {} : { erasedAt };
    default:
      throw new Error(`${(event as { type: string }).type} is not an event of data subjects`);
  }
}

export const dataSubject = { category: 'subject', initial: {} as DataSubjectState, decide, evolve } as const;
