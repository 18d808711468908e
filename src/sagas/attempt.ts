import type { SendOutcome } from '../channels/channel.js';
import { derivedId, newId } from '../commands/ids.js';
import { nextAttempt } from '../domain/delivery-attempts.js';
import type { AttemptOutcome, DeliveryCommand, Failover } from '../domain/delivery-commands.js';
import type { AttemptRef } from '../domain/delivery-events.js';
import { attemptKey, type DeliveryState, type Leg } from '../domain/delivery-state.js';
import { defaultRetryPolicy, type RetryPolicy, reactionTo } from '../domain/retry-policy.js';
import { SUPPRESSIBLE } from '../domain/suppression.js';
import type { ErrorCategory, Failure } from '../domain/vocabulary.js';
import { type Addressed, type Among, type Suppress, withoutSuppressed } from './addressees.js';
import { AttemptFiles, failureOfContent, OF_CONTENT, type OpenFile } from './attempt-files.js';
import type { Verdict } from './breaker.js';
import { policyInDoubt, type Unanswered } from './doubts.js';
import { Call, type Halt } from './halt.js';
import type { Pass } from './route-gate.js';
import type { Target, Targets } from './targets.js';

type Existing = Exclude<DeliveryState, { tag: 'absent' }>;

export interface AttemptWork {
  readonly deliveryId: string;
  readonly state: Existing;
  readonly leg: Leg;
  readonly pass: Pass;
  /**
   * Asked right before the call: whoever was stopped or waited for long since it was given the work may have lost it to
   * another instance, which makes the call itself.
   */
  readonly mayBegin: () => Promise<boolean>;
}

/** How an attempt reaches the rest of the engine. */
export interface AttemptPorts {
  readonly targets: Targets;
  /** Stores a decision about the delivery; false when it changed nothing. */
  readonly decide: (deliveryId: string, command: DeliveryCommand, commandId: string) => Promise<boolean>;
  readonly disableDestination: (destinationId: string, reason: string) => Promise<void>;
  /** Whether a provider that is not among the `tried` could have the leg's next attempt at once. */
  readonly hasOtherProvider: (leg: Leg, tried: readonly string[]) => boolean;
  /** RFC 3339, by the clock that due times are of. */
  readonly now: () => string;
  readonly onBug: (error: unknown, deliveryId: string) => void;
  /** Left out where there is no suppression list. */
  readonly suppressed?: Among;
  readonly suppress?: Suppress;
  /** Where providers reach this instance; without it they are not asked to report. */
  readonly publicUrl?: string;
  /** Fetches what of a request lies outside the log, attachments apart; left out where nothing does. */
  readonly complete?: Complete;
  readonly openFile?: OpenFile;
}

/** @throws ContentLost, ContentUnavailable */
export type Complete = (request: Existing['request'], deliveryId: string) => Promise<Existing['request']> | undefined;

/** One attempt from its route to its recorded outcome. */
export class Attempts {
  readonly #ports: AttemptPorts;
  readonly #running = new Set<Halt>();
  #stopping = false;

  constructor(ports: AttemptPorts) {
    this.#ports = ports;
  }

  /**
   * @returns true when an outcome was stored; false when the delivery no longer wanted the attempt, or its end; the
   *   attempt itself when nobody has heard its end and that has to be found out
   */
  async run(work: AttemptWork): Promise<boolean | Unanswered> {
    const { deliveryId, leg, pass } = work;
    let { state } = work;
    const route = leg.routes[leg.route];
    if (!route) throw new Error(`leg ${leg.leg} of ${deliveryId} has no route ${leg.route}`);
    if (pass.detour) {
      await this.#takeDetour(work, pass.detour);
      return false;
    }
    const target = await this.#ports.targets.resolve(route, pass.provider?.name);
    const { provider } = target;
    const attempt = nextAttempt(leg, provider, this.#ports.now(), pass.provider?.reason);
    if (!target.ok) {
      const outcome = { kind: 'rejected', failure: target.failure } as const;
      pass.end(verdictOn(target.failure, pass));
      return await this.#record(work, attempt, outcome, defaultRetryPolicy);
    }
    let files: AttemptFiles | undefined;
    if (state.request.stored) {
      const whole = await this.#complete(deliveryId, state);
      if ('category' in whole) {
        pass.end('neutral');
        return await this.#record(work, attempt, { kind: 'rejected', failure: whole }, target.policy);
      }
      state = { ...state, request: whole.request };
      files = whole.files;
    }
    const addressed = await this.#addressed(target, state, route.address);
    if (!addressed) {
      pass.end('neutral');
      return await this.#record(work, attempt, { kind: 'rejected', failure: SUPPRESSED }, defaultRetryPolicy);
    }
    if (target.adapter.describe().idempotency === 'none') {
      const { providerReason } = attempt;
      const start = { type: 'StartAttempt', now: attempt.startedAt, leg: leg.leg, provider } as const;
      // New each time: two owners that start the same attempt must not pass for one that repeats itself.
      const mayStart = await this.#ports.decide(
        deliveryId,
        providerReason === undefined ? start : { providerReason, ...start },
        newId(),
      );
      if (!mayStart) return false;
    }
    if (!(await work.mayBegin())) return false;
    const sent = await this.#send(deliveryId, state, leg, target, addressed, files);
    if (!sent) return false;
    report(sent, pass);
    const outcome = outcomeOf(sent);
    if (outcome.kind === 'rejected' && isDoubtful(sent, target)) return { attempt, outcome, policy: target.policy };
    const isStored = await this.#record(work, attempt, outcome, target.policy);
    if (sent.kind === 'rejected' && sent.gone) await this.#noteGone(work, route, target, sent.code);
    return isStored;
  }

  /** Stops waiting for providers. What was cut off is not recorded: shutdown is not failure. */
  abort(): void {
    this.#stopping = true;
    for (const halt of this.#running) halt.abort(new DOMException('Waybill is shutting down', 'AbortError'));
  }

  /** The request with its content, which only this attempt holds, and its files; or why there can be none. */
  async #complete(
    deliveryId: string,
    { request }: Existing,
  ): Promise<{ readonly request: Existing['request']; readonly files: AttemptFiles | undefined } | Failure> {
    const { complete, openFile } = this.#ports;
    try {
      const whole = (await complete?.(request, deliveryId)) ?? request;
      const { stored } = whole;
      return { request: whole, files: stored && openFile && (await AttemptFiles.open(stored, deliveryId, openFile)) };
    } catch (error) {
      return failureOfContent(error);
    }
  }

  /** Without those who are on the suppression list; undefined when nobody is left. */
  async #addressed({ adapter, config }: Extract<Target, { ok: true }>, { request }: Existing, bare?: string) {
    const { channel } = adapter.describe();
    const { suppressed } = this.#ports;
    if (!suppressed || !SUPPRESSIBLE.has(channel)) return { config, content: request.content };
    const message = { config, content: request.content };
    return await withoutSuppressed(message, request.organizationId, channel, suppressed, bare);
  }

  async #send(
    deliveryId: string,
    { request, requestedAt }: Existing,
    leg: Leg,
    target: Extract<Target, { ok: true }>,
    { config, content }: Addressed,
    files: AttemptFiles | undefined,
  ): Promise<SendOutcome | undefined> {
    const { adapter } = target;
    const call = new Call(attemptKey(deliveryId, leg), new Date());
    const { halt } = call;
    const ownTimeout = config.timeout;
    const timeoutMs = typeof ownTimeout === 'number' ? ownTimeout : adapter.describe().limits.timeoutMs;
    const timer = setTimeout(
      () => halt.abort(new DOMException('the attempt took too long', 'TimeoutError')),
      timeoutMs,
    );
    this.#running.add(halt);
    try {
      const outcome = await adapter.send(
        {
          deliveryId,
          organizationId: request.organizationId,
          config,
          content: files ? files.within(content) : content,
          ...(request.personalization && { personalization: request.personalization }),
          requestedAt,
          ...(request.expiresAt !== undefined && { expiresAt: request.expiresAt }),
          tags: request.tags,
          priority: request.priority,
          ...this.#callback(adapter.describe().provider, leg, target),
        },
        call,
      );
      if (outcome.kind === 'accepted') return outcome;
      if (this.#stopping && halt.aborted) return undefined;
      return files?.trouble ? withoutContent(files.trouble) : outcome;
    } catch (error) {
      if (files?.trouble) return withoutContent(files.trouble);
      this.#ports.onBug(error, deliveryId);
      const detail = `the ${target.provider} channel has a defect: ${(error as Error).name}`;
      return { kind: 'rejected', category: 'SYSTEM', code: 'CHANNEL_DEFECT', detail };
    } finally {
      clearTimeout(timer);
      this.#running.delete(halt);
    }
  }

  /** A destination is disabled until somebody updates it; a bare address gets nothing any more. */
  async #noteGone(
    { deliveryId, state }: AttemptWork,
    { destinationId, channel, address }: Leg['routes'][number],
    { provider }: Extract<Target, { ok: true }>,
    code: string,
  ): Promise<void> {
    const { disableDestination, suppress } = this.#ports;
    if (destinationId !== undefined)
      await disableDestination(destinationId, `the receiver answered that it is gone (${code})`);
    else if (address !== undefined && SUPPRESSIBLE.has(channel))
      await suppress?.(
        { organizationId: state.request.organizationId, channel, address },
        { deliveryId, provider, code },
      );
  }

  /** Where the provider is to report to, where it can. */
  #callback(provider: string, leg: Leg, target: Extract<Target, { ok: true }>): { readonly callbackUrl?: string } {
    const { publicUrl } = this.#ports;
    if (publicUrl === undefined || !target.adapter.parseCallback) return NO_CALLBACK;
    const whose = leg.routes[leg.route]?.destinationId ?? target.provider;
    return { callbackUrl: `${publicUrl}/callbacks/${provider}/${whose}` };
  }

  async #record(
    { deliveryId, leg, pass }: AttemptWork,
    attempt: AttemptRef,
    outcome: AttemptOutcome & { readonly isInDoubt?: boolean },
    policy: RetryPolicy,
  ): Promise<boolean> {
    const now = this.#ports.now();
    const command = { type: 'RecordOutcome', now, attempt, outcome, policy, random: Math.random() } as const;
    const failover = outcome.kind === 'rejected' ? this.#failover(leg, pass, outcome) : undefined;
    const commandId = outcomeId(deliveryId, attempt);
    return await this.#ports.decide(deliveryId, failover ? { failover, ...command } : command, commandId);
  }

  /**
   * With several providers for a channel, one that fails on its own account hands over to the next. Not when it may have
   * sent the message: only the same one would notice that it gets it twice.
   */
  #failover(
    leg: Leg,
    { provider }: Pass,
    { failure, isInDoubt }: Rejected & { readonly isInDoubt?: boolean },
  ): Failover | undefined {
    if (!provider || isInDoubt || !FAILS_OVER.has(failure.category) || OF_CONTENT.has(failure.code)) return undefined;
    const before = (leg.progress.tag === 'retrying' && leg.progress.tried) || [];
    const tried = [...before, provider.name];
    if (this.#ports.hasOtherProvider(leg, tried)) return { tag: 'next', tried };
    const mayPass = before.length > 0 && leg.failure && reactionTo[leg.failure.category] === 'retry';
    return mayPass ? { tag: 'again' } : undefined;
  }

  async #takeDetour({ deliveryId, leg }: AttemptWork, failure: Failure): Promise<void> {
    const { leg: number, round, route, attempts } = leg;
    const command = { type: 'TakeDetour', now: this.#ports.now(), leg: number, route, failure } as const;
    await this.#ports.decide(
      deliveryId,
      command,
      derivedId(deliveryId, `detour/${number}/${round}/${route}/${attempts}`),
    );
  }
}

const NO_CALLBACK = {};

const SUPPRESSED: Failure = {
  category: 'PERMANENT',
  code: 'SUPPRESSED',
  message: 'whom it is for is on the suppression list',
};

type Rejected = Extract<AttemptOutcome, { kind: 'rejected' }>;

/** What the provider fails on its own account; anything else would fail with the next one too. */
const FAILS_OVER: ReadonlySet<ErrorCategory> = new Set([
  'TEMPORARY',
  'NETWORK',
  'SYSTEM',
  'RATE_LIMIT',
  'AUTHENTICATION',
  'CONFIGURATION',
]);
/** What tells that the other side is not well; of a configured provider also that nobody can use it as it is. */
const UNWELL: ReadonlySet<ErrorCategory> = new Set(['TEMPORARY', 'NETWORK', 'SYSTEM']);
const UNUSABLE: ReadonlySet<ErrorCategory> = new Set([...UNWELL, 'AUTHENTICATION', 'CONFIGURATION']);
/** Defects of ours, calls that we ended ourselves, and addresses that are another provider's. */
const OUR_OWN: ReadonlySet<string> = new Set(['CHANNEL_DEFECT', 'ABORTED', 'OTHER_PROVIDER', ...OF_CONTENT]);

const verdictOn = ({ category, code }: Pick<Failure, 'category' | 'code'>, { provider }: Pass): Verdict =>
  (provider ? UNUSABLE : UNWELL).has(category) && !OUR_OWN.has(code) ? 'bad' : 'neutral';

/** A message that broke off with its content is none: the other side has not taken it. */
const withoutContent = ({ category, code, message }: Failure): SendOutcome => ({
  kind: 'rejected',
  category,
  code,
  detail: message,
});

function report(sent: SendOutcome, pass: Pass): void {
  const isAccepted = sent.kind === 'accepted';
  if (!isAccepted && sent.category === 'RATE_LIMIT' && sent.retryAfterMs !== undefined) pass.pause(sent.retryAfterMs);
  pass.end(isAccepted ? 'good' : verdictOn(sent, pass));
}

/** The provider may have done it, nothing would stop it from doing it twice, and a person is to decide. */
const isDoubtful = (sent: SendOutcome, target: Extract<Target, { ok: true }>): boolean =>
  sent.kind === 'rejected' &&
  sent.inDoubt === true &&
  target.adapter.describe().idempotency === 'none' &&
  policyInDoubt(target) === 'hold';

/** The same after a crash, so that an outcome whose storing was interrupted is stored once. */
const outcomeId = (deliveryId: string, { leg, number }: AttemptRef): string =>
  derivedId(deliveryId, `outcome/${leg}/${number}`);

function outcomeOf(sent: SendOutcome): AttemptOutcome & { readonly isInDoubt?: boolean } {
  if (sent.kind === 'accepted') return sent;
  const { category, code, detail, retryAfterMs, inDoubt } = sent;
  return {
    kind: 'rejected',
    failure: { category, code, message: detail },
    ...(inDoubt && { isInDoubt: true }),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  };
}
