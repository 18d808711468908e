import type { DeliveryEvent, Route } from '../../src/domain/delivery-events.js';
import { absent, type DeliveryState, evolve } from '../../src/domain/delivery-state.js';
import type { EventCodec } from '../../src/event-store/codec.js';
import type { RecordedEvent, StreamAppend } from '../../src/event-store/event-store.js';
import { type Checkpoint, partitionOf } from '../../src/sagas/engine-store.js';
import { type Case, legOf, newCase, POISON, stateOf } from './cases.js';
import { CLOCK_TOLERANCE_MS, type EventRuleParts, EventRules } from './event-rules.js';
import type { Rule, Violation } from './history.js';
import type { Knowledge } from './knowledge.js';
import type { Call } from './providers.js';
import type { Host } from './scheduler.js';
import type { Appended } from './simulated-log.js';
import type { Witness } from './witness.js';

/** How long an attempt can take from its beginning to its call: it may have to read its destination first. */
const LONGEST_BEGINNING_MS = 10_000;

const STREAMS = 'delivery-';

export interface JudgeParts extends Omit<EventRuleParts, 'cases' | 'calmSinceMs'> {
  readonly codec: EventCodec;
  readonly knowledge: Knowledge;
  readonly isAlone: boolean;
  readonly streamOf: (id: string) => readonly RecordedEvent[];
  /** Whether a call to this address is one of this route. */
  readonly leadsTo: (route: Route, address: string) => boolean;
  readonly witness: Witness;
}

/** Where a call leads to in its delivery. */
interface Place {
  readonly leg: number;
  readonly route: number;
}

/** Watches what instances append, store and call, and says which invariant they break. */
export class Judge {
  readonly cases = new Map<string, Case>();
  readonly rules: EventRules;
  readonly #parts: JudgeParts;

  constructor(parts: JudgeParts) {
    this.#parts = parts;
    this.rules = new EventRules({ ...parts, cases: this.cases, calmSinceMs: () => parts.witness.calmSinceMs });
  }

  nameOf(id: string): string {
    return this.cases.get(id)?.name ?? id;
  }

  /** An append leaves an instance. */
  sent(host: Host, { streamId, events }: StreamAppend): void {
    const { database, isAlone, witness } = this.#parts;
    if (witness.isReplaying) witness.fail('nothing twice on replay', `${events[0]?.type} in ${streamId}`);
    if (!streamId.startsWith(STREAMS)) return;
    const id = streamId.slice(STREAMS.length);
    for (const { type, metadata } of events) {
      // What becomes of a dependency follows from the log alone: whoever sees it may write it down.
      if (metadata.actor !== 'engine' || type === 'DependencySatisfied' || type === 'DependencyFailed') continue;
      if (!database.isHeldBy(partitionOf(id), host, isAlone))
        this.#fail('lease before append', id, `${host.name} sends ${type} without a lease`);
    }
  }

  /** A checkpoint leaves an instance; epochs protect the partitions it names, so its rows must be in those. */
  saved(host: Host, { held, open, closed, troubled = [], recovered = [] }: Checkpoint): void {
    const partitions = new Set(held.map(({ partition }) => partition));
    for (const id of [...[...open, ...troubled].map((row) => row.id), ...closed, ...recovered])
      if (!partitions.has(partitionOf(id)))
        this.#fail('lease before append', id, `${host.name} stores a row in a partition that it does not hold`);
  }

  /** An append was carried out. */
  appended({ streamId, events, host }: Appended): void {
    if (!streamId.startsWith(STREAMS)) return;
    const id = streamId.slice(STREAMS.length);
    const found = this.cases.get(id) ?? newCase(id, String(events[0]?.data.correlationId ?? id));
    this.cases.set(id, found);
    found.lastEventMs = this.#parts.scheduler.nowMs;
    if (found.isPoisoned) this.#readAgain(found);
    else this.#fold(found, events, host);
  }

  /** A provider is called. */
  called(call: Call): void {
    const { witness } = this.#parts;
    const { number, deliveryId: id, address, description } = call;
    if (witness.isReplaying) witness.fail('nothing twice on replay', `call ${number} to ${address}`);
    const found = this.cases.get(id);
    const place = found && this.#placeOf(stateOf(found), address);
    if (!found || !place) {
      this.#fail('call for a reason', id, `call ${number} to ${address} is for nothing`);
      return;
    }
    const isRecorded = description.idempotency === 'none';
    if (!isRecorded) this.#checkReason(found, call, place);
    found.calls.push({ call, ...place, attempt: isRecorded ? this.#startedFor(found, call, place) : undefined });
    const keys = new Set(found.calls.filter(({ leg }) => leg === place.leg).map((each) => each.call.key));
    const rounds = 1 + (legOf(stateOf(found), place.leg)?.round ?? 0);
    if (keys.size > rounds)
      this.#fail('same key', id, `leg ${place.leg}: ${[...keys].join(', ')} in ${rounds} round(s)`);
  }

  #fold(found: Case, events: readonly RecordedEvent[], host: Host): void {
    let previous: DeliveryEvent | undefined;
    for (const recorded of events) {
      if (recorded.type === POISON) {
        found.isPoisoned = true;
        return;
      }
      const { event } = this.#parts.codec.decode<DeliveryEvent>(recorded);
      const before = stateOf(found);
      const complaints: (Violation | undefined)[] = [];
      if (recorded.metadata.actor === 'engine') complaints.push(this.rules.ofTime(event));
      if (before.tag !== 'absent') complaints.push(this.rules.of(found, before, event, previous));
      for (const broken of complaints) if (broken) this.#fail(broken.rule, found.id, broken.detail);
      note(found, before, event, host);
      try {
        found.states.push({ position: recorded.position, state: evolve(before, event) });
      } catch (error) {
        this.#fail('streams fold', found.id, (error as Error).message);
      }
      previous = event;
    }
  }

  /** An operator may have had the poison skipped. */
  #readAgain(found: Case): void {
    const { codec, streamOf } = this.#parts;
    const stream = streamOf(found.id);
    const last = stream.at(-1);
    if (last?.type !== 'EventSkipped') return;
    try {
      const state = codec.fold<DeliveryState, DeliveryEvent>(stream, evolve, absent);
      found.states.push({ position: last.position, state });
      found.isPoisoned = false;
    } catch {
      // There is more of it.
    }
  }

  #placeOf(state: DeliveryState, address: string): Place | undefined {
    if (state.tag === 'absent') return undefined;
    for (const { leg, routes } of state.legs) {
      const route = routes.findIndex((each) => this.#parts.leadsTo(each, address));
      if (route >= 0) return { leg, route };
    }
    return undefined;
  }

  /** The attempt that the caller has recorded last, if it has not called for it yet. */
  #startedFor(found: Case, call: Call, place: Place): number | undefined {
    let newest = 0;
    for (const [key, host] of found.started) {
      const [leg, number] = key.split('/').map(Number) as [number, number];
      if (leg === place.leg && host === call.host) newest = Math.max(newest, number);
    }
    const isCalled = found.calls.some(({ leg, attempt }) => leg === place.leg && attempt === newest);
    if (newest > 0 && !isCalled) return newest;
    const why = newest === 0 ? 'which has recorded no attempt for it' : `which has called for attempt ${newest} before`;
    const what = `call ${call.number} to ${call.address} by ${call.host.name}`;
    this.#fail('one call for each attempt', found.id, `${what}, ${why}`);
    return undefined;
  }

  /** Some state between what the caller must know by now and what is true must call for it. */
  #checkReason(found: Case, call: Call, { leg: number, route }: Place): void {
    const { knowledge, scheduler, database } = this.#parts;
    const known = knowledge.of(call.host, partitionOf(found.id), scheduler.nowMs - LONGEST_BEGINNING_MS);
    const from = Math.max(
      found.states.findLastIndex(({ position }) => position <= known),
      0,
    );
    const isCalledFor = ({ state }: { readonly state: DeliveryState }) => {
      const leg = legOf(state, number);
      if (state.tag !== 'active' || leg?.route !== route) return false;
      if (leg.progress.tag === 'retrying') return Date.parse(leg.progress.dueAt) <= database.nowMs + CLOCK_TOLERANCE_MS;
      return leg.progress.tag === 'ready';
    };
    if (found.states.slice(from).some(isCalledFor)) return;
    const state = found.states[from]?.state ?? absent;
    const leg = legOf(state, number);
    const told = `which knows the delivery to be ${state.tag}, the leg ${leg?.progress.tag} on route ${leg?.route}`;
    const what = `call ${call.number} by ${call.host.name} on leg ${number}, route ${route}`;
    this.#fail('call for a reason', found.id, `${what}, ${told}`);
  }

  #fail(rule: Rule, id: string, detail: string): void {
    this.#parts.witness.fail(rule, `${this.nameOf(id)}: ${detail}`);
  }
}

/** What later events and calls are measured by. */
function note(found: Case, before: DeliveryState, event: DeliveryEvent, host: Host): void {
  if (event.type === 'AttemptStarted') found.started.set(`${event.data.leg}/${event.data.number}`, host);
  if (event.type === 'AttemptInDoubt') found.doubts.add(`${event.data.leg}/${event.data.number}`);
  if (event.type !== 'AttemptResolved' || event.data.outcome !== 'not-sent') return;
  const { leg, route } = event.data;
  const place = `${leg}/${legOf(before, leg)?.round}/${route}`;
  found.wishes.set(place, (found.wishes.get(place) ?? 0) + 1);
}
