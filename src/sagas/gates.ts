import type { UsableDestination } from '../commands/destination-directory.js';
import type { Leg } from '../domain/delivery-state.js';
import type { OpenCircuit } from '../domain/provider.js';
import type { Channel } from '../domain/vocabulary.js';
import { Breaker, type BreakerOptions, type Verdict } from './breaker.js';
import type { EngineLog } from './engine-log.js';
import { Limiter, type Limits } from './limiter.js';
import { pause } from './pause.js';
import { chooseProvider, type Obstacle, type Preference } from './provider-choice.js';
import { type OtherSide, RouteGate, type SideChoice } from './route-gate.js';

/** What has a circuit breaker. */
export type Subject = { readonly destinationId: string } | { readonly provider: string; readonly channel: Channel };

/** Where the health of the other sides is recorded, so that it is seen and outlives this process. */
export interface HealthRecord {
  opened(subject: Subject, circuit: OpenCircuit): Promise<void>;
  closed(subject: Subject): Promise<void>;
  disable(destinationId: string, reason: string): Promise<void>;
  circuitOf(provider: string): Promise<OpenCircuit | undefined>;
}

/** The destinations as they are configured now. */
export interface Destinations {
  peek(id: string): UsableDestination | undefined;
  find(id: string): Promise<UsableDestination | undefined>;
  /** Called with every destination that may have changed. */
  set onChange(listener: (id: string) => void);
}

export interface GatedProvider extends Preference {
  readonly channel: Channel;
  readonly limits?: Limits;
}

export interface GateOptions {
  /** Calls at once to one destination or host that has no limit of its own. */
  readonly destinationConcurrency: number;
  readonly breaker: BreakerOptions;
  /** When a destination is disabled: so many failures in a row, over so long. */
  readonly disableAfter: { readonly failures: number; readonly hours: number };
  /** The instance's own; providers of the same one are preferred. */
  readonly region?: string;
}

export interface GatesParts {
  readonly destinations: Destinations;
  readonly providers: readonly GatedProvider[];
  readonly record: HealthRecord;
  readonly options: GateOptions;
  readonly log: EngineLog;
  /** Unix milliseconds, by the clock that due times are of. */
  readonly nowMs: () => number;
}

/** Until a destination's limits are known, it gets one call at a time. */
const UNKNOWN: Limits = { concurrency: 1 };
/** Sides that are kept although nothing is going on with them. */
const SWEEP_FROM = 10_000;
const RECORD_AGAIN_MS = 5_000;

interface Side extends OtherSide {
  readonly subject?: Subject;
  /** For legs without and with another route. */
  readonly gates: RouteGate[];
}

/** All the other sides there are to call, and their gates. Those that nothing is going on with are forgotten. */
export class Gates {
  /** This instance's part of all limits, more than 0, at most 1. */
  share = 1;
  readonly #parts: GatesParts;
  readonly #stop = new AbortController();
  readonly #destinations = new Map<string, Side>();
  readonly #hosts = new Map<string, Side>();
  readonly #providers: readonly { readonly provider: GatedProvider; readonly side: Side }[];
  readonly #channels = new Map<string, RouteGate>();
  /** Sides whose last turn is on its way to the log. */
  readonly #recording = new Set<Side>();
  #sweepAt = SWEEP_FROM;

  constructor(parts: GatesParts) {
    this.#parts = parts;
    this.#providers = parts.providers.map((provider) => {
      const { name, channel, limits = {} } = provider;
      return { provider, side: this.#side({ limits, subject: { provider: name, channel } }) };
    });
  }

  /** Where the leg's current route has to pass. */
  of({ routes, route: current }: Leg): RouteGate {
    const route = routes[current];
    if (!route) throw new Error(`there is no route ${current}`);
    const hasDetour = current + 1 < routes.length;
    const { destinationId, channel, address = '', provider } = route;
    if (destinationId !== undefined) return this.#gateOf(this.#destination(destinationId), hasDetour);
    const isHost = channel === 'WEBHOOK' && provider === undefined;
    const gate = isHost ? undefined : this.#ofProviders(channel, provider, hasDetour);
    return gate ?? this.#gateOf(this.#host(isHost ? hostOf(address) : channel), hasDetour);
  }

  /** Whether another provider could be tried at once for an attempt that `tried` have failed. */
  hasOther(leg: Leg, tried: readonly string[]): boolean {
    const route = leg.routes[leg.route];
    if (!route || route.destinationId !== undefined || route.provider !== undefined) return false;
    const now = this.#parts.nowMs();
    return this.#providers.some(
      ({ provider, side }) =>
        provider.channel === route.channel && !tried.includes(provider.name) && obstacleOf(side, now) === undefined,
    );
  }

  /** Begins to follow what the log knows of the other sides. */
  start(): void {
    this.#parts.destinations.onChange = (id) => {
      const side = this.#destinations.get(id);
      if (side) void this.#learn(side, id);
    };
    for (const { provider, side } of this.#providers)
      void this.#parts.record
        .circuitOf(provider.name)
        .then((circuit) => restore(side, circuit))
        .catch((err: unknown) => this.#parts.log.warn('the state of a provider is not known', { err }));
  }

  stop(): void {
    this.#stop.abort();
    for (const sides of [this.#destinations, this.#hosts])
      for (const { gates } of sides.values()) for (const gate of gates) gate.stop();
    for (const gate of this.#channels.values()) gate.stop();
  }

  #gateOf({ gates }: Side, hasDetour: boolean): RouteGate {
    return gates[hasDetour ? 1 : 0] as RouteGate;
  }

  #destination(destinationId: string): Side {
    const kept = this.#destinations.get(destinationId);
    if (kept) return kept;
    this.#sweep();
    const known = this.#parts.destinations.peek(destinationId);
    const limits = known ? this.#limitsOf(known) : UNKNOWN;
    const side = this.#withGates(this.#side({ limits, subject: { destinationId } }));
    this.#destinations.set(destinationId, side);
    if (known) restore(side, known.circuit);
    else void this.#learn(side, destinationId, true);
    return side;
  }

  #host(name: string): Side {
    const kept = this.#hosts.get(name);
    if (kept) return kept;
    this.#sweep();
    const side = this.#withGates(this.#side({ limits: this.#limitsOf(undefined) }));
    this.#hosts.set(name, side);
    return side;
  }

  #withGates(side: Side): Side {
    const { nowMs } = this.#parts;
    side.gates.push(new RouteGate({ sides: [side], nowMs }), new RouteGate({ sides: [side], nowMs, hasDetour: true }));
    return side;
  }

  /** Undefined when no provider is configured for it. */
  #ofProviders(channel: Channel, name: string | undefined, hasDetour: boolean): RouteGate | undefined {
    const key = `${channel} ${hasDetour ? 'detour' : ''} ${name ?? ''}`;
    let gate = this.#channels.get(key);
    if (!gate) {
      const chosen = this.#providers.filter(
        ({ provider }) => provider.channel === channel && (name === undefined || provider.name === name),
      );
      if (chosen.length === 0) return undefined;
      const sides = chosen.map(({ side }) => side);
      const choose = (nowMs: number, tried: readonly string[]) => this.#choose(chosen, nowMs, tried);
      const isNamed = name !== undefined;
      gate = new RouteGate({ sides, nowMs: this.#parts.nowMs, hasDetour, ...(!isNamed && { choose }) });
      for (const side of sides) side.gates.push(gate);
      this.#channels.set(key, gate);
    }
    return gate;
  }

  #choose(
    candidates: readonly { readonly provider: GatedProvider; readonly side: Side }[],
    nowMs: number,
    tried: readonly string[],
  ): SideChoice | undefined {
    const { region } = this.#parts.options;
    const sides = new Map(candidates.map(({ provider, side }) => [provider, side]));
    const options = { region, random: Math.random() };
    const choose = (also: readonly string[]) =>
      chooseProvider(
        [...sides.keys()],
        (provider) => (also.includes(provider.name) ? 'tried' : obstacleOf(sides.get(provider) as Side, nowMs)),
        options,
      );
    // One that has failed it is still better than none.
    const choice = choose(tried) ?? choose([]);
    return choice && { side: sides.get(choice.provider) as Side, reason: choice.reason };
  }

  #side({ limits, subject }: { readonly limits: Limits; readonly subject?: Subject }): Side {
    const { options, nowMs } = this.#parts;
    const limiter = new Limiter({
      limits,
      nowMs,
      share: () => this.share,
      ...(subject && { breaker: new Breaker(options.breaker) }),
    });
    const side: Side = {
      limiter,
      gates: [],
      ...(subject && { subject }),
      ...(subject && 'provider' in subject && { provider: subject.provider }),
      onEnd: (verdict, hasTurned) => this.#ended(side, verdict, hasTurned),
    };
    return side;
  }

  #ended(side: Side, verdict: Verdict, hasTurned: boolean): void {
    if (hasTurned) void this.#record(side);
    else if (verdict === 'bad') this.#disableIfHopeless(side);
    for (const gate of side.gates) gate.wake();
  }

  /** Stores how the circuit stands, again and again until it is stored, and whatever it has become meanwhile. */
  async #record(side: Side): Promise<void> {
    const { record, log } = this.#parts;
    const { subject, limiter } = side;
    if (!subject || this.#recording.has(side)) return;
    this.#recording.add(side);
    for (;;) {
      const circuit = openCircuitOf(limiter.breaker);
      try {
        await (circuit ? record.opened(subject, circuit) : record.closed(subject));
        if ((circuit === undefined) === (limiter.breaker?.openUntilMs === undefined)) break;
      } catch (err) {
        log.warn('the state of a circuit could not be stored yet', { ...subject, err });
        await pause(RECORD_AGAIN_MS, this.#stop.signal);
      }
      if (this.#stop.signal.aborted) break;
    }
    this.#recording.delete(side);
    this.#disableIfHopeless(side);
  }

  #disableIfHopeless({ subject, limiter }: Side): void {
    const failing = limiter.breaker?.failing;
    if (!failing || !subject || !('destinationId' in subject)) return;
    const { record, options, log, nowMs } = this.#parts;
    const { failures, hours } = options.disableAfter;
    if (failing.failures < failures || nowMs() - failing.sinceMs < hours * 3_600_000) return;
    const since = new Date(failing.sinceMs).toISOString();
    record
      .disable(subject.destinationId, `${failing.failures} failures in a row since ${since}`)
      .catch((err: unknown) => log.warn('a destination could not be disabled', { ...subject, err }));
  }

  async #learn(side: Side, destinationId: string, isNew = false): Promise<void> {
    const { destinations, log } = this.#parts;
    const found = await destinations.find(destinationId).catch((err: unknown) => {
      log.warn('the limits of a destination are not known', { destinationId, err });
      return undefined;
    });
    side.limiter.limits = this.#limitsOf(found);
    // Recorded as healthy, repaired, enabled, or one that takes nothing at all: nobody has to wait for it.
    const isClosed = found?.circuit === undefined || found.disabled !== undefined;
    if (!isClosed && isNew) restore(side, found?.circuit);
    if (isClosed && !this.#recording.has(side)) side.limiter.breaker?.close();
    for (const gate of side.gates) gate.wake();
  }

  #limitsOf(found: UsableDestination | undefined): Limits {
    return { concurrency: this.#parts.options.destinationConcurrency, ...found?.definition.limits };
  }

  #sweep(): void {
    if (this.#destinations.size + this.#hosts.size < this.#sweepAt) return;
    for (const sides of [this.#destinations, this.#hosts])
      for (const [key, { limiter, gates }] of sides)
        if (limiter.isIdle && gates.every(({ isAwaited }) => !isAwaited)) sides.delete(key);
    this.#sweepAt = Math.max(SWEEP_FROM, 2 * (this.#destinations.size + this.#hosts.size));
  }
}

/** Scheme, host and port of a URL, as far as telling hosts apart takes. */
const hostOf = (address: string): string => {
  const end = address.indexOf('/', address.indexOf('://') + 3);
  return end < 0 ? address : address.slice(0, end);
};

function obstacleOf({ limiter }: Side, nowMs: number): Obstacle | undefined {
  const opensAtMs = limiter.opensAtMs(nowMs);
  if (opensAtMs <= nowMs) return undefined;
  if (limiter.breaker?.openUntilMs !== undefined) return 'circuit open';
  return limiter.isPaused(nowMs) ? 'asked to wait' : 'limit reached';
}

function openCircuitOf(breaker: Breaker | undefined): OpenCircuit | undefined {
  if (breaker?.openUntilMs === undefined || !breaker.failing) return undefined;
  const { sinceMs, failures } = breaker.failing;
  return {
    reason: `${failures} failures in a row`,
    until: new Date(breaker.openUntilMs).toISOString(),
    failingSince: new Date(sinceMs).toISOString(),
    failures,
  };
}

function restore({ limiter, gates }: Side, circuit: OpenCircuit | undefined): void {
  // What was learned here meanwhile is newer.
  if (!circuit || !limiter.breaker || limiter.breaker.failing) return;
  const { until, failingSince, failures } = circuit;
  limiter.breaker.restore(Date.parse(until), { sinceMs: Date.parse(failingSince), failures });
  for (const gate of gates) gate.wake();
}
