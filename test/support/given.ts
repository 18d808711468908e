import { expect } from 'vitest';
import type { Decider } from '../../src/commands/executor.js';
import type { Rejection } from '../../src/domain/rejection.js';
import type { DomainEvent } from '../../src/event-store/codec.js';

export interface Verdict<State, Event> {
  /** Exactly these events are recorded, in this order. */
  then(...events: Event[]): void;
  thenNothing(): void;
  /** @param paths of the fields that are to blame; none when the refusal is about no field */
  thenRejected(code: Rejection['code'], ...paths: string[]): void;
  /** What was recorded, for assertions about a part of it. */
  readonly events: readonly Event[];
  /** The state after what was recorded. */
  readonly state: State;
}

/** Given what has happened, when something is asked, then this happens: the language of the tests in `domain/`. */
export const specification =
  <State, Command, Event extends DomainEvent>({ initial, decide, evolve }: Decider<State, Command, Event>) =>
  (...history: Event[]) => {
    const state = history.reduce((folded, event) => evolve(folded, event), initial);
    const when = (command: Command): Verdict<State, Event> => {
      const decision = decide(command, state);
      const events = decision.ok ? decision.events : [];
      return {
        events,
        state: events.reduce((folded, event) => evolve(folded, event), state),
        // biome-ignore lint/suspicious/noThenProperty: given, when, then; nobody awaits a verdict
        then: (...expected) => expect(decision).toEqual({ ok: true, events: expected }),
        thenNothing: () => expect(decision).toEqual({ ok: true, events: [] }),
        thenRejected(code, ...paths) {
          if (decision.ok) expect.fail(`expected ${code}, but this was recorded: ${JSON.stringify(decision.events)}`);
          const { rejection } = decision;
          expect({ code: rejection.code, paths: rejection.fields?.map(({ path }) => path) ?? [] }).toEqual({
            code,
            paths,
          });
          expect(rejection.message).not.toBe('');
        },
      };
    };
    return { state, when };
  };
