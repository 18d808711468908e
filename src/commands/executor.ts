import { type Decision, type Rejection, reject } from '../domain/rejection.js';
import {
  type DomainEvent,
  type Envelope,
  type EventCodec,
  subjectOfOrganization,
  subjectsOf,
} from '../event-store/codec.js';
import type { AppendResult, EventStore, NewEvent } from '../event-store/event-store.js';
import { eventId } from './ids.js';

/** A functional decider: everything the executor needs to know of one kind of aggregate. */
export interface Decider<State, Command, Event extends DomainEvent> {
  /** Stream names are `<category>-<id>`. */
  readonly category: string;
  readonly initial: State;
  decide(command: Command, state: State): Decision<Event>;
  evolve(state: State, event: Event): State;
  /** Whose key protects what is sensitive in its events, or `FORGOTTEN`; its organization's when there is nobody. */
  subject?(state: State, id: string): string | undefined;
}

/** A state as somebody knows it; `revision` is undefined before the stream's first event. */
export interface Known<State> {
  readonly state: State;
  readonly revision: number | undefined;
}

export interface Executed<State, Event> extends Known<State> {
  readonly ok: true;
  /** What this command recorded; empty when there was nothing to do. */
  readonly events: readonly Event[];
  /** Position of the newest of them in the log; undefined when nothing was recorded. */
  readonly position: bigint | undefined;
}
export type Refused = { readonly ok: false; readonly rejection: Rejection };
export type ExecuteResult<State, Event> = Executed<State, Event> | Refused;

export interface Order<State, Command> {
  readonly id: string;
  readonly command: Command;
  readonly envelope: Envelope;
  /** Spares reading the stream. May be stale: a conflict makes the executor read and decide again. */
  readonly known?: Known<State>;
  /** The command was made from `known` and means nothing for another state: a conflict is answered as CONFLICT. */
  readonly onlyIfKnown?: boolean;
  /** Asked after all reading, which may have taken long, before anything is appended; a no is answered as CONFLICT. Default: yes. */
  readonly mayAppend?: () => boolean;
}

/** Somebody else keeps winning the race for this stream: more than a person or a crash can explain. */
const MAX_CONFLICTS = 20;

/** The one place that loads, decides, appends and, when another writer was faster, does so again. */
export class CommandExecutor {
  readonly #store: EventStore;
  readonly #codec: EventCodec;

  constructor(store: EventStore, codec: EventCodec) {
    this.#store = store;
    this.#codec = codec;
  }

  /** @throws UndecodableEvent when the stream holds what this program cannot understand; callers answer CONFLICT */
  async load<State, Command, Event extends DomainEvent>(
    decider: Decider<State, Command, Event>,
    id: string,
  ): Promise<Known<State>> {
    const recorded = await this.#store.readStream(`${decider.category}-${id}`);
    const state = this.#codec.fold<State, Event>(recorded, decider.evolve, decider.initial);
    return { state, revision: recorded.at(-1)?.revision };
  }

  async execute<State, Command, Event extends DomainEvent>(
    decider: Decider<State, Command, Event>,
    order: Order<State, Command>,
  ): Promise<ExecuteResult<State, Event>> {
    return (await this.executeMany(decider, [order]))[0] as ExecuteResult<State, Event>;
  }

  /** Independent orders on different streams, in as few commits as possible; answers in order. */
  async executeMany<State, Command, Event extends DomainEvent>(
    decider: Decider<State, Command, Event>,
    orders: readonly Order<State, Command>[],
  ): Promise<ExecuteResult<State, Event>[]> {
    const results = new Array<ExecuteResult<State, Event>>(orders.length);
    let open = orders.map((order, index) => ({ order, index, known: order.known, isCurrent: false }));
    for (let round = 0; open.length > 0; round++) {
      if (round > MAX_CONFLICTS) throw new Error(`${decider.category} streams changed too often to be written`);
      const decided: { task: (typeof open)[number]; known: Known<State>; events: readonly Event[] }[] = [];
      for (const task of open) {
        let known = task.known ?? (await this.load(decider, task.order.id));
        let decision = decider.decide(task.order.command, known.state);
        if (task.known && !task.isCurrent && (!decision.ok || decision.events.length === 0)) {
          // A "no" and a "nothing to do" are final, so they must not rest on a state that may be stale.
          known = await this.load(decider, task.order.id);
          decision = decider.decide(task.order.command, known.state);
        }
        if (!decision.ok) results[task.index] = decision;
        else if (decision.events.length === 0)
          results[task.index] = { ok: true, ...known, events: [], position: undefined };
        else decided.push({ task, known, events: decision.events });
      }
      const appends = decided.filter(({ task }) => {
        const mayAppend = task.order.mayAppend?.() !== false;
        if (!mayAppend)
          results[task.index] = reject('CONFLICT', `this ${decider.category} is another instance’s by now`);
        return mayAppend;
      });
      open = [];
      const answers = await this.#append(decider, appends);
      for (const [at, answer] of answers.entries()) {
        const { task, known, events } = appends[at] as (typeof appends)[number];
        if (answer.ok && !answer.idempotent) {
          const state = events.reduce((folded, event) => decider.evolve(folded, event), known.state);
          results[task.index] = { ok: true, state, revision: answer.revision, events, position: answer.position };
        } else if (answer.ok) {
          // Stored before, perhaps with another outcome than would be decided now: what is stored counts.
          const stored = await this.load(decider, task.order.id);
          results[task.index] = { ok: true, ...stored, events: [], position: answer.position };
        } else if (task.order.onlyIfKnown)
          results[task.index] = reject('CONFLICT', `this ${decider.category} was changed meanwhile`);
        else open.push({ ...task, known: await this.load(decider, task.order.id), isCurrent: true });
      }
    }
    return results;
  }

  async #append<State>(
    { category, subject }: Pick<Decider<State, never, never>, 'category' | 'subject'>,
    appends: readonly {
      readonly task: { readonly order: Order<unknown, unknown> };
      readonly known: Known<State>;
      readonly events: readonly DomainEvent[];
    }[],
  ): Promise<AppendResult[]> {
    const owners = appends.map(({ task: { order }, known }) => ({
      streamId: `${category}-${order.id}`,
      subject: subject?.(known.state, order.id) ?? subjectOfOrganization(order.envelope.organizationId),
    }));
    const keys = this.#codec.prepare(
      appends.flatMap(({ task, events }, index) => {
        const { organizationId } = task.order.envelope;
        return subjectsOf(events, organizationId, owners[index]?.subject ?? '');
      }),
    );
    if (keys) await keys;
    const encoded = appends.map(({ task: { order }, known, events }, nth) => {
      const owner = owners[nth] as (typeof owners)[number];
      const { commandId } = order.envelope;
      return {
        streamId: owner.streamId,
        expected: known.revision ?? ('no-stream' as const),
        events: events.map(
          (event, index): NewEvent => this.#codec.encode(event, eventId(commandId, index), order.envelope, owner),
        ),
      };
    });
    const only = encoded[0];
    if (encoded.length === 1 && only) return [await this.#store.append(only.streamId, only.expected, only.events)];
    return encoded.length === 0 ? [] : await this.#store.appendMany(encoded);
  }
}
