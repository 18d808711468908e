import { type Decision, record } from './rejection.js';
import type { Channel, Instant } from './vocabulary.js';

/** A provider of the instance's configuration, as far as it has a history: whether calls to it make sense. */

/** Why calls stopped, from when on they are tried again, and since when every one of them had failed. */
export interface OpenCircuit {
  readonly reason: string;
  readonly until: Instant;
  readonly failingSince: Instant;
  /** In a row, until then. */
  readonly failures: number;
}

export type ProviderEvent =
  | {
      readonly type: 'ProviderCircuitOpened';
      readonly at: Instant;
      readonly data: OpenCircuit & { readonly name: string; readonly channel: Channel };
    }
  | { readonly type: 'ProviderCircuitClosed'; readonly at: Instant; readonly data: { readonly name: string } };

export interface ProviderState {
  readonly circuit?: OpenCircuit;
}

export type ProviderCommand =
  | {
      readonly type: 'OpenProviderCircuit';
      readonly now: Instant;
      readonly name: string;
      readonly channel: Channel;
      readonly circuit: OpenCircuit;
    }
  | { readonly type: 'CloseProviderCircuit'; readonly now: Instant; readonly name: string };

/** Every instance has a breaker of its own: opened by two, it is open. */
export function decide(command: ProviderCommand, state: ProviderState): Decision<ProviderEvent> {
  const { name, now } = command;
  if (command.type === 'CloseProviderCircuit')
    return state.circuit ? record({ type: 'ProviderCircuitClosed', at: now, data: { name } }) : record();
  if (state.circuit) return record();
  const data = { name, channel: command.channel, ...command.circuit };
  return record({ type: 'ProviderCircuitOpened', at: now, data });
}

export function evolve(_: ProviderState, event: ProviderEvent): ProviderState {
  if (event.type === 'ProviderCircuitClosed') return {};
  const { name: __, channel: ___, ...circuit } = event.data;
  return { circuit };
}

export const provider = { category: 'provider', initial: {} as ProviderState, decide, evolve } as const;
