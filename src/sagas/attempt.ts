import type { ChannelDescription, SendOutcome } from '../channels/channel.js';
import { derivedId, newId } from '../commands/ids.js';
import { type AttemptOutcome, type DeliveryCommand, nextAttempt } from '../domain/delivery.js';
import type { AttemptRef } from '../domain/delivery-events.js';
import { attemptKey, type DeliveryState, type Leg } from '../domain/delivery-state.js';
import { defaultRetryPolicy, type RetryPolicy } from '../domain/retry-policy.js';
import type { Target, Targets } from './targets.js';

type Existing = Exclude<DeliveryState, { tag: 'absent' }>;

export interface AttemptWork {
  readonly deliveryId: string;
  readonly state: Existing;
  readonly leg: Leg;
}

/** How an attempt reaches the rest of the engine. */
export interface AttemptPorts {
  readonly targets: Targets;
  /** Stores a decision about the delivery; false when it changed nothing. */
  readonly decide: (deliveryId: string, command: DeliveryCommand, commandId: string) => Promise<boolean>;
  readonly disableDestination: (destinationId: string, reason: string) => Promise<void>;
  readonly onBug: (error: unknown, deliveryId: string) => void;
}

/** One attempt from its route to its recorded outcome. */
export class Attempts {
  readonly #ports: AttemptPorts;
  readonly #running = new Set<AbortController>();
  #stopping = false;

  constructor(ports: AttemptPorts) {
    this.#ports = ports;
  }

  /** @returns true when an outcome was stored; false when the delivery no longer wanted the attempt, or its end */
  async run({ deliveryId, state, leg }: AttemptWork): Promise<boolean> {
    const route = leg.routes[leg.route];
    if (!route) throw new Error(`leg ${leg.leg} of ${deliveryId} has no route ${leg.route}`);
    const target = await this.#ports.targets.resolve(route);
    const attempt = nextAttempt(leg, target.provider, new Date().toISOString());
    if (!target.ok) {
      const outcome = { kind: 'rejected', failure: target.failure } as const;
      return await this.#record(deliveryId, attempt, outcome, defaultRetryPolicy);
    }
    if (target.adapter.describe().idempotency === 'none') {
      const start = { type: 'StartAttempt', now: attempt.startedAt, leg: leg.leg, provider: target.provider } as const;
      // New each time: two owners that start the same attempt must not pass for one that repeats itself.
      const mayStart = await this.#ports.decide(deliveryId, start, newId());
      if (!mayStart) return false;
    }
    const sent = await this.#send(deliveryId, state, leg, target);
    if (!sent) return false;
    if (isDoubtful(sent, target.adapter.describe())) {
      const doubt = {
        type: 'DeclareInDoubt',
        now: new Date().toISOString(),
        leg: leg.leg,
        resolution: 'hold',
      } as const;
      return await this.#ports.decide(deliveryId, doubt, commandIdOf(deliveryId, attempt, 'doubt'));
    }
    const isStored = await this.#record(deliveryId, attempt, outcomeOf(sent), target.policy);
    if (sent.kind === 'rejected' && sent.gone && route.destinationId !== undefined)
      await this.#ports.disableDestination(route.destinationId, `the receiver answered that it is gone (${sent.code})`);
    return isStored;
  }

  /** Stops waiting for providers. What was cut off is not recorded: shutdown is not failure. */
  abort(): void {
    this.#stopping = true;
    for (const controller of this.#running) controller.abort();
  }

  async #send(
    deliveryId: string,
    { request, requestedAt }: Existing,
    leg: Leg,
    target: Extract<Target, { ok: true }>,
  ): Promise<SendOutcome | undefined> {
    const controller = new AbortController();
    const { adapter, config } = target;
    const ownTimeout = config.timeout;
    const timeoutMs = typeof ownTimeout === 'number' ? ownTimeout : adapter.describe().limits.timeoutMs;
    const timer = setTimeout(
      () => controller.abort(new DOMException('the attempt took too long', 'TimeoutError')),
      timeoutMs,
    );
    this.#running.add(controller);
    try {
      const outcome = await adapter.send(
        {
          deliveryId,
          organizationId: request.organizationId,
          config,
          content: request.content,
          ...(request.personalization && { personalization: request.personalization }),
          requestedAt,
        },
        { signal: controller.signal, attemptKey: attemptKey(deliveryId, leg), now: new Date() },
      );
      return this.#stopping && controller.signal.aborted && outcome.kind === 'rejected' ? undefined : outcome;
    } catch (error) {
      this.#ports.onBug(error, deliveryId);
      const detail = `the ${target.provider} channel has a defect: ${(error as Error).name}`;
      return { kind: 'rejected', category: 'SYSTEM', code: 'CHANNEL_DEFECT', detail };
    } finally {
      clearTimeout(timer);
      this.#running.delete(controller);
    }
  }

  async #record(id: string, attempt: AttemptRef, outcome: AttemptOutcome, policy: RetryPolicy): Promise<boolean> {
    const now = new Date().toISOString();
    return await this.#ports.decide(
      id,
      { type: 'RecordOutcome', now, attempt, outcome, policy, random: Math.random() },
      commandIdOf(id, attempt, 'outcome'),
    );
  }
}

/** The provider may have done it, nothing would stop it from doing it twice, and a person is to decide. */
const isDoubtful = (sent: SendOutcome, { idempotency, inDoubt }: ChannelDescription): boolean =>
  sent.kind === 'rejected' && sent.inDoubt === true && idempotency === 'none' && inDoubt === 'hold';

/** The same after a crash, so that an outcome whose storing was interrupted is stored once. */
const commandIdOf = (deliveryId: string, { leg, number }: AttemptRef, what: 'outcome' | 'doubt'): string =>
  derivedId(deliveryId, `${what}/${leg}/${number}`);

function outcomeOf(sent: SendOutcome): AttemptOutcome {
  if (sent.kind === 'accepted') return sent;
  const { category, code, detail, retryAfterMs } = sent;
  return {
    kind: 'rejected',
    failure: { category, code, message: detail },
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  };
}
