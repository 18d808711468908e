import type { Report } from './reports.js';
import type { Channel, Content, Failure, Instant, Json, JsonObject, Priority } from './vocabulary.js';

/** One way to reach a target. The address of a destination is in the destination, so that a repaired one is used. */
export interface Route {
  readonly channel: Channel;
  readonly destinationId?: string;
  readonly address?: string;
  /** The person the address is of, by a name that tells nobody who it is; absent where it is no person's. */
  readonly subject?: string;
  /** A configured provider's name; with a destination, its configuration names the provider. */
  readonly provider?: string;
}

/** One target of a delivery, with its routes in fallback order. Legs are numbered from 1 within their delivery. */
export interface LegPlan {
  readonly leg: number;
  readonly routes: readonly Route[];
  /** How many people or systems this leg reaches (an e-mail destination may have several recipients). */
  readonly recipients: number;
}

export interface ApprovalRule {
  readonly approvers: readonly string[];
  /** How many different approvers must approve. */
  readonly minimum: number;
  readonly deadline?: Instant;
}

/** What identifies one attempt: leg and number are unique within the delivery. */
export interface AttemptRef {
  readonly leg: number;
  /** 1 for the leg's first attempt; counts on over routes and over retries by a person. */
  readonly number: number;
  /** Index into the leg's routes. */
  readonly route: number;
  readonly channel: Channel;
  readonly provider: string;
  readonly destinationId?: string;
  /** Why this one of several configured providers. */
  readonly providerReason?: string;
  readonly startedAt: Instant;
}

interface Fact<Type extends string, Data> {
  readonly type: Type;
  /** When it happened, by the clock of the process that recorded it. */
  readonly at: Instant;
  readonly data: Data;
}

/** A part of a request that is too large for its event: sealed, it lies outside the log. */
export interface StoredContent {
  /** The field, such as `content.html` or `content.attachments.0`. */
  readonly path: string;
  /** The id of the key it is sealed with. */
  readonly key: string;
  /** SHA-256 of the sealed bytes, hexadecimal: nothing else passes for it. */
  readonly hash: string;
  /** Sealed bytes. */
  readonly size: number;
  /** Of a content in pieces, 16 bytes in hexadecimal, which make its key; missing where it is one piece, as they all were. */
  readonly salt?: string;
  /** Until when it is kept, in seconds since 1970; missing where it is as long as its key. */
  readonly until?: number;
}

export type DeliveryRequested = Fact<
  'DeliveryRequested',
  {
    readonly organizationId: string;
    /** Whose key protects the content, and what providers answer: a person's, several persons', a destination's … */
    readonly subject?: string;
    /** True when what was sealed can never be read again. Never stored: found out when the event is read. */
    readonly erased?: true;
    readonly priority: Priority;
    readonly legs: readonly LegPlan[];
    /** Without what is in `stored`. */
    readonly content: Content;
    readonly personalization?: JsonObject;
    readonly stored?: readonly StoredContent[];
    readonly tags: readonly string[];
    readonly metadata?: Json;
    readonly correlationId?: string;
    readonly idempotencyKey?: string;
    /** Keyed digest of the request's canonical form; tells a repeated request from another one with the same key. */
    readonly fingerprint?: string;
    readonly scheduledAt?: Instant;
    readonly expiresAt?: Instant;
    readonly dependsOn?: readonly string[];
    readonly slaSeconds?: number;
    readonly approval?: ApprovalRule;
  }
>;

export type ScheduleReached = Fact<'ScheduleReached', Record<never, never>>;
export type DependencySatisfied = Fact<'DependencySatisfied', { readonly deliveryId: string }>;
/** The delivery this one waited for has ended in a way that nobody can mend (cancelled, expired, rejected). */
export type DependencyFailed = Fact<'DependencyFailed', { readonly deliveryId: string; readonly failure: Failure }>;

export type ApprovalGranted = Fact<'ApprovalGranted', { readonly approver: string; readonly comment?: string }>;
export type ApprovalRejected = Fact<'ApprovalRejected', { readonly approver: string; readonly reason: string }>;
export type ApprovalTimedOut = Fact<'ApprovalTimedOut', Record<never, never>>;

/** Recorded before the call on channels where nothing else protects the receiver from a second one. */
export type AttemptStarted = Fact<'AttemptStarted', AttemptRef>;
export type AttemptSucceeded = Fact<
  'AttemptSucceeded',
  AttemptRef & { readonly providerMessageId?: string; readonly delivered: boolean; readonly warning?: string }
>;
export type AttemptFailed = Fact<
  'AttemptFailed',
  AttemptRef & { readonly failure: Failure; readonly retryAfterMs?: number }
>;
/**
 * A crash, or an answer that never came, left it unknown whether the provider got the call; `resolution` is what was decided. `lookup` is what the
 * provider's own records said, where it has any that can be asked; had they held the message, it would be a success.
 */
export type AttemptInDoubt = Fact<
  'AttemptInDoubt',
  AttemptRef & { readonly resolution: 'resend' | 'hold'; readonly lookup?: 'not-found' | 'unknown' }
>;
/** A person has found out what became of an attempt that was held in doubt. Not sent, it is made again. */
export type AttemptResolved = Fact<
  'AttemptResolved',
  AttemptRef & { readonly outcome: 'sent' | 'delivered' | 'not-sent'; readonly by: string; readonly note?: string }
>;

/** What the provider reported later. Only the first two decide how the leg has ended. */
export type Delivered = Fact<'Delivered', Report>;
export type Bounced = Fact<'Bounced', Report & { readonly failure: Failure }>;
export type Complained = Fact<'Complained', Report>;
export type Opened = Fact<'Opened', Report>;
export type Clicked = Fact<'Clicked', Report>;
export type OptedOut = Fact<'OptedOut', Report>;

/** `tried`: the configured providers that have just failed it; another one of the channel is to be next. */
export type RetryScheduled = Fact<
  'RetryScheduled',
  { readonly leg: number; readonly dueAt: Instant; readonly tried?: readonly string[] }
>;
export type FallbackChosen = Fact<
  'FallbackChosen',
  { readonly leg: number; readonly route: number; readonly failure: Failure }
>;
/** The leg's last route has failed for good; a person may retry it. */
export type LegDeadLettered = Fact<'LegDeadLettered', { readonly leg: number; readonly failure: Failure }>;
/** A person asked for failed legs to be tried again; `round` makes a new attempt key. */
export type DeliveryRetried = Fact<
  'DeliveryRetried',
  { readonly legs: readonly number[]; readonly round: number; readonly by: string }
>;
export type DeliveryCancelled = Fact<'DeliveryCancelled', { readonly by: string; readonly reason?: string }>;
export type DeliveryExpired = Fact<'DeliveryExpired', Record<never, never>>;

/** The engine had suspended this delivery, and an operator wants it to try again. Changes nothing in the delivery. */
export type ProcessResumed = Fact<'ProcessResumed', { readonly by: string; readonly reason: string }>;
/**
 * An operator lets the delivery go on after an event that cannot be understood: the stream is read as if the event of
 * that revision were not there (see the codec). Changes nothing else in the delivery.
 */
export type EventSkipped = Fact<
  'EventSkipped',
  {
    readonly revision: number;
    readonly eventType: string;
    /** Why it could not be understood. */
    readonly error: string;
    readonly by: string;
    readonly reason: string;
  }
>;

export type DeliveryEvent =
  | DeliveryRequested
  | ScheduleReached
  | DependencySatisfied
  | DependencyFailed
  | ApprovalGranted
  | ApprovalRejected
  | ApprovalTimedOut
  | AttemptStarted
  | AttemptSucceeded
  | AttemptFailed
  | AttemptInDoubt
  | AttemptResolved
  | Delivered
  | Bounced
  | Complained
  | Opened
  | Clicked
  | OptedOut
  | RetryScheduled
  | FallbackChosen
  | LegDeadLettered
  | DeliveryRetried
  | DeliveryCancelled
  | DeliveryExpired
  | ProcessResumed
  | EventSkipped;
