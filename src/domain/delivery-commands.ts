import type { AttemptRef, DeliveryEvent, DeliveryRequested } from './delivery-events.js';
import { type DeliveryState } from './delivery-state.js';
import { type Decision } from './rejection.js';
import { type ReportKind } from './reports.js';
import { type RetryPolicy } from './retry-policy.js';
import { type Channel, type Failure, type Instant } from './vocabulary.js';

/** What can be asked of a delivery. `now` and `random` are arguments: deciding is pure. */
export type DeliveryCommand =
  | {
      readonly type: 'RequestDelivery';
      readonly id: string;
      readonly now: Instant;
      readonly request: DeliveryRequested['data'];
    }
  | { readonly type: 'ReachSchedule'; readonly now: Instant }
  | {
      readonly type: 'ResolveDependency';
      readonly now: Instant;
      readonly deliveryId: string;
      readonly failure?: Failure;
    }
  | { readonly type: 'Approve'; readonly now: Instant; readonly approver: string; readonly comment?: string }
  | { readonly type: 'Reject'; readonly now: Instant; readonly approver: string; readonly reason: string }
  | { readonly type: 'TimeOutApproval'; readonly now: Instant }
  | {
      readonly type: 'StartAttempt';
      readonly now: Instant;
      readonly leg: number;
      readonly provider: string;
      readonly providerReason?: string;
    }
  | {
      readonly type: 'RecordOutcome';
      readonly now: Instant;
      readonly attempt: AttemptRef;
      readonly outcome: AttemptOutcome;
      readonly policy: RetryPolicy;
      readonly random: number;
      readonly failover?: Failover;
    }
  /** The leg's current route cannot be used for now, and the leg has another one. */
  | {
      readonly type: 'TakeDetour';
      readonly now: Instant;
      readonly leg: number;
      readonly route: number;
      readonly failure: Failure;
    }
  | {
      readonly type: 'DeclareInDoubt';
      readonly now: Instant;
      readonly leg: number;
      readonly resolution: 'resend' | 'hold';
      /** The attempt that is meant; any that is under way when it is left out. */
      readonly attempt?: number;
      readonly lookup?: 'not-found' | 'unknown';
    }
  | {
      readonly type: 'ResolveAttempt';
      readonly now: Instant;
      readonly leg: number;
      readonly attempt: number;
      readonly outcome: 'sent' | 'not-sent';
      readonly by: string;
      readonly note?: string;
    }
  | RecordReport
  | { readonly type: 'Expire'; readonly now: Instant }
  | { readonly type: 'Cancel'; readonly now: Instant; readonly by: string; readonly reason?: string }
  | { readonly type: 'Retry'; readonly now: Instant; readonly by: string };

/** A provider says what became of a message it had accepted. */
export interface RecordReport {
  readonly type: 'RecordReport';
  readonly now: Instant;
  readonly kind: ReportKind;
  readonly leg: number;
  /** The leg's current one when it is left out. */
  readonly round?: number;
  /** Whose configuration the message was sent with, or which address it went to: that tells the route. */
  readonly via: { readonly destinationId?: string; readonly channel: Channel; readonly address?: string };
  readonly provider: string;
  readonly reportId: string;
  readonly happenedAt: Instant;
  readonly recipient: string;
  /** Of a bounce. */
  readonly failure?: Failure;
}

/** What a failed attempt with one of several providers of a channel leads to. */
export type Failover =
  /** All of these have failed it; there is another one, which is tried at once. */
  | { readonly tag: 'next'; readonly tried: readonly string[] }
  /** There is none left, and one before has failed in a way that may pass. */
  | { readonly tag: 'again' };

export type AttemptOutcome =
  | {
      readonly kind: 'accepted';
      readonly providerMessageId?: string;
      readonly delivered: boolean;
      readonly warning?: string;
    }
  | { readonly kind: 'rejected'; readonly failure: Failure; readonly retryAfterMs?: number };

/** A delivery that was requested. */
export type Existing = Exclude<DeliveryState, { tag: 'absent' }>;
export type Result = Decision<DeliveryEvent>;
