import type { ChannelAdapter, LookupOptions, LookupResult, OutgoingMessage } from '../channels/channel.js';
import { withDeadline } from '../channels/deadline.js';
import { derivedId } from '../commands/ids.js';
import type { AttemptOutcome, DeliveryCommand } from '../domain/delivery-commands.js';
import type { AttemptRef } from '../domain/delivery-events.js';
import { attemptKey, type DeliveryState, type Leg } from '../domain/delivery-state.js';
import { defaultRetryPolicy, type RetryPolicy } from '../domain/retry-policy.js';
import type { Instant } from '../domain/vocabulary.js';
import { pause } from './pause.js';
import type { Target, Targets } from './targets.js';

type Usable = Extract<Target, { ok: true }>;

/** A call that was made, and whose end was not heard. */
export interface Unanswered {
  readonly attempt: AttemptRef;
  /** What to record when its provider has not had it. */
  readonly outcome: Extract<AttemptOutcome, { kind: 'rejected' }>;
  readonly policy: RetryPolicy;
}

/** An attempt without an outcome that nobody makes any more. */
export interface Doubt {
  readonly deliveryId: string;
  readonly state: Exclude<DeliveryState, { tag: 'absent' }>;
  readonly leg: Leg;
  readonly attempt: AttemptRef;
  /** Missing after a crash, when nobody knows how the call went. */
  readonly unanswered?: Unanswered;
}

/** Questions to one provider. */
const MOST_AT_ONCE = 8;

interface Turns {
  asking: number;
  readonly waiting: (() => void)[];
}

/** Between two questions to a provider that could not say. */
const ASK_AGAIN_AFTER_MS: readonly number[] = [1_000, 5_000];
/** What the provider's clock and ours may differ by, and what it may need to list a message that it has taken. */
const LISTED_AFTER_MS = 2_000;

type Request = Doubt['state']['request'];

export interface DoubtPorts {
  readonly targets: Targets;
  /** Stores a decision about the delivery. */
  readonly decide: (deliveryId: string, command: DeliveryCommand, commandId: string) => Promise<boolean>;
  /** Unix milliseconds, by the clock that attempts are dated by. */
  readonly nowMs: () => number;
  readonly onBug: (error: unknown, deliveryId: string) => void;
  /** Fetches what of a request lies outside the log; left out where nothing does. */
  readonly complete?: (request: Request, deliveryId: string) => Promise<Request> | undefined;
  /** Ends the asking. */
  readonly signal: AbortSignal;
}

/**
 * What becomes of attempts in doubt: the provider may or may not have had the call. Where the provider keeps records that can be asked, they settle it; else the policy of destination or channel.
 */
export class Doubts {
  readonly #ports: DoubtPorts;
  /** By provider: one that says nothing holds up no other. */
  readonly #turns = new Map<string, Turns>();

  constructor(ports: DoubtPorts) {
    this.#ports = ports;
  }

  /** @returns true when what was found out is stored; false when the delivery did not want it, or we are to stop */
  async settle(doubt: Doubt): Promise<boolean> {
    const { targets, decide, signal } = this.#ports;
    const { deliveryId, leg, attempt, unanswered } = doubt;
    const route = leg.routes[attempt.route] ?? { channel: attempt.channel };
    // Where there is a choice of providers, the one to be asked is the one that may have had the call.
    const { provider } = attempt;
    const target = await targets.resolve(route, provider);
    const answer = target.ok && target.provider === provider ? await this.#lookUp(doubt, target) : undefined;
    // Cut off by a shutdown: asked again at the next start.
    if (signal.aborted) return false;
    const idOf = (what: string) => derivedId(deliveryId, `${what}/${leg.leg}/${attempt.number}`);
    if (answer?.kind === 'found') {
      const { providerMessageId, delivered } = answer;
      const outcome = { kind: 'accepted', providerMessageId, delivered } as const;
      const policy = defaultRetryPolicy; // what was accepted is not retried
      const found = { type: 'RecordOutcome', now: this.#now(), attempt, outcome, policy, random: 0 } as const;
      return await decide(deliveryId, found, idOf('outcome'));
    }
    if (answer?.kind === 'not-found' && unanswered) {
      // An ordinary failure after all.
      const { outcome, policy } = unanswered;
      const random = Math.random();
      const failed = { type: 'RecordOutcome', now: this.#now(), attempt, outcome, policy, random } as const;
      return await decide(deliveryId, failed, idOf('outcome'));
    }
    // A message that brings the process down must not do so for ever.
    const mayResend = target.ok && leg.routeAttempts < target.policy.maxAttempts;
    const declared = {
      type: 'DeclareInDoubt',
      now: this.#now(),
      leg: leg.leg,
      attempt: attempt.number,
      resolution: mayResend ? resolutionOf(target, answer) : 'hold',
      ...(answer && { lookup: answer.kind }),
    } as const;
    return await decide(deliveryId, declared, idOf('doubt'));
  }

  /** @returns undefined where there are no records to ask */
  async #lookUp(
    { deliveryId, state: { request: outline, requestedAt }, leg, attempt: { startedAt } }: Doubt,
    { adapter, config, provider }: Usable,
  ): Promise<LookupResult | undefined> {
    if (!adapter.lookup) return undefined;
    // Without its content there is nothing to compare the provider's records with.
    const request = outline.stored ? await this.#whole(outline, deliveryId) : outline;
    if (!request) return undefined;
    const message: OutgoingMessage = {
      deliveryId,
      organizationId: request.organizationId,
      config,
      content: request.content,
      ...(request.personalization && { personalization: request.personalization }),
      requestedAt,
    };
    const timeoutMs = typeof config.timeout === 'number' ? config.timeout : adapter.describe().limits.timeoutMs;
    // Until then the provider may still be at work on the call.
    const listedByMs = Date.parse(startedAt) + timeoutMs + LISTED_AFTER_MS;
    const pauses = [...ASK_AGAIN_AFTER_MS];
    for (;;) {
      const askedAtMs = this.#ports.nowMs();
      const about = { attemptKey: attemptKey(deliveryId, leg), since: new Date(startedAt) };
      const answer = await this.#inTurn(provider, () => this.#ask(adapter, message, about, timeoutMs));
      if (answer.kind === 'found' || (answer.kind === 'not-found' && askedAtMs >= listedByMs)) return answer;
      const pauseMs = answer.kind === 'not-found' ? listedByMs - askedAtMs : pauses.shift();
      if (pauseMs === undefined || this.#ports.signal.aborted) return answer;
      await pause(pauseMs, this.#ports.signal);
    }
  }

  async #whole(request: Request, deliveryId: string): Promise<Request | undefined> {
    try {
      return (await this.#ports.complete?.(request, deliveryId)) ?? request;
    } catch {
      return undefined;
    }
  }

  async #ask(
    adapter: ChannelAdapter,
    message: OutgoingMessage,
    about: Omit<LookupOptions, 'signal'>,
    timeoutMs: number,
  ): Promise<LookupResult> {
    try {
      return await withDeadline(
        timeoutMs,
        this.#ports.signal,
        async (signal) => (await adapter.lookup?.(message, { ...about, signal })) ?? { kind: 'unknown' },
      );
    } catch (error) {
      this.#ports.onBug(error, message.deliveryId);
      return { kind: 'unknown' };
    }
  }

  /** After a crash there may be thousands to ask about. */
  async #inTurn<Result>(provider: string, work: () => Promise<Result>): Promise<Result> {
    const turns = this.#turns.get(provider) ?? { asking: 0, waiting: [] };
    this.#turns.set(provider, turns);
    if (turns.asking < MOST_AT_ONCE) turns.asking++;
    else await new Promise<void>((go) => turns.waiting.push(go));
    try {
      return await work();
    } finally {
      const next = turns.waiting.shift();
      if (next) next();
      else turns.asking--;
    }
  }

  #now(): Instant {
    return new Date(this.#ports.nowMs()).toISOString();
  }
}

/** What its provider does not know of was not sent; what nobody knows is for the destination's or the channel's policy. */
function resolutionOf({ adapter, config }: Usable, answer: LookupResult | undefined): 'resend' | 'hold' {
  return answer?.kind === 'not-found' ? 'resend' : policyInDoubt({ adapter, config });
}

/** The destination's own wish, else what is usual for its channel. */
export const policyInDoubt = ({ adapter, config }: Pick<Usable, 'adapter' | 'config'>): 'resend' | 'hold' =>
  config.inDoubt === 'resend' || config.inDoubt === 'hold' ? config.inDoubt : adapter.describe().inDoubt;
