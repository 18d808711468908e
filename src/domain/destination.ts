import type { OpenCircuit } from './provider.js';
import { type Decision, record, reject } from './rejection.js';
import type { RetryPolicy } from './retry-policy.js';
import type { Channel, Instant, JsonObject } from './vocabulary.js';

export type Secrets = Readonly<Record<string, string>>;
/** What stands in a configuration where a secret is; sent back in an update, it keeps the secret as it is. */
export const hidden = '********';

/** A place that deliveries go to again and again, with the configuration of its channel. */
export interface DestinationDefinition {
  readonly organizationId: string;
  readonly label: string;
  readonly type: Channel;
  readonly description?: string;
  /** Checked by the channel's adapter; where a secret was, it has `hidden`. */
  readonly config: JsonObject;
  /** The secrets themselves, by dotted path into `config`; never shown again. */
  readonly secrets: Secrets;
  readonly retry?: RetryPolicy;
  /** Of calls to it; where it names none, the instance's defaults hold. */
  readonly limits?: { readonly concurrency?: number; readonly perSecond?: number };
  readonly isDefault: boolean;
}

interface Fact<Type extends string, Data> {
  readonly type: Type;
  readonly at: Instant;
  readonly data: Data;
}

export type DestinationEvent =
  | Fact<'DestinationCreated', DestinationDefinition>
  | Fact<'DestinationUpdated', DestinationDefinition>
  | Fact<'DestinationSecretRotated', { readonly config: JsonObject; readonly secrets: Secrets }>
  | Fact<'DestinationDisabled', { readonly reason: string }>
  | Fact<'DestinationEnabled', Record<never, never>>
  /** It has failed too often in a row to be called for now. */
  | Fact<'DestinationCircuitOpened', OpenCircuit>
  | Fact<'DestinationCircuitClosed', Record<never, never>>
  | Fact<'DestinationDeleted', Record<never, never>>;

export type DestinationState =
  | { readonly tag: 'absent' }
  | {
      readonly tag: 'present';
      readonly definition: DestinationDefinition;
      readonly disabled?: string;
      readonly circuit?: OpenCircuit;
    }
  | { readonly tag: 'deleted'; readonly definition: DestinationDefinition };

export type DestinationCommand =
  | { readonly type: 'CreateDestination'; readonly now: Instant; readonly definition: DestinationDefinition }
  | { readonly type: 'UpdateDestination'; readonly now: Instant; readonly definition: DestinationDefinition }
  | {
      readonly type: 'RotateDestinationSecret';
      readonly now: Instant;
      readonly config: JsonObject;
      readonly secrets: Secrets;
    }
  | { readonly type: 'DisableDestination'; readonly now: Instant; readonly reason: string }
  | { readonly type: 'EnableDestination'; readonly now: Instant }
  | { readonly type: 'OpenDestinationCircuit'; readonly now: Instant; readonly circuit: OpenCircuit }
  | { readonly type: 'CloseDestinationCircuit'; readonly now: Instant }
  | { readonly type: 'DeleteDestination'; readonly now: Instant };

export function decide(command: DestinationCommand, state: DestinationState): Decision<DestinationEvent> {
  if (command.type === 'CreateDestination')
    return state.tag === 'absent'
      ? record({ type: 'DestinationCreated', at: command.now, data: command.definition })
      : reject('CONFLICT', 'this destination exists already');
  if (state.tag !== 'present') return reject('NOT_FOUND', 'there is no such destination');

  switch (command.type) {
    case 'UpdateDestination':
      if (command.definition.type !== state.definition.type)
        return reject('BAD_USER_INPUT', 'type: cannot be changed; create another destination', [
          { path: 'type', problem: 'cannot be changed; create another destination' },
        ]);
      return record<DestinationEvent>(
        { type: 'DestinationUpdated', at: command.now, data: command.definition },
        // Whoever repairs a destination means it to be used.
        ...(state.disabled === undefined
          ? []
          : [{ type: 'DestinationEnabled' as const, at: command.now, data: {} as Record<never, never> }]),
      );
    case 'RotateDestinationSecret':
      return record({
        type: 'DestinationSecretRotated',
        at: command.now,
        data: { config: command.config, secrets: command.secrets },
      });
    case 'DisableDestination':
      if (state.disabled !== undefined) return record();
      return record({ type: 'DestinationDisabled', at: command.now, data: { reason: command.reason } });
    case 'EnableDestination':
      if (state.disabled === undefined) return record();
      return record({ type: 'DestinationEnabled', at: command.now, data: {} });
    case 'OpenDestinationCircuit':
      // Every instance has a breaker of its own: opened by two, it is open.
      if (state.circuit) return record();
      return record({ type: 'DestinationCircuitOpened', at: command.now, data: command.circuit });
    case 'CloseDestinationCircuit':
      if (!state.circuit) return record();
      return record({ type: 'DestinationCircuitClosed', at: command.now, data: {} });
    case 'DeleteDestination':
      return record({ type: 'DestinationDeleted', at: command.now, data: {} });
  }
}

export function evolve(state: DestinationState, event: DestinationEvent): DestinationState {
  if (event.type === 'DestinationCreated') return { tag: 'present', definition: event.data };
  if (state.tag === 'absent') throw new Error(`${event.type} is recorded in a destination that was never created`);
  switch (event.type) {
    case 'DestinationUpdated':
      // Repaired, as far as anybody knows.
      return withDefinition(state, event.data);
    case 'DestinationSecretRotated':
      return { ...state, definition: { ...state.definition, ...event.data } };
    case 'DestinationDisabled':
      return { tag: 'present', definition: state.definition, disabled: event.data.reason };
    case 'DestinationEnabled':
      return { tag: 'present', definition: state.definition };
    case 'DestinationCircuitOpened':
      return { tag: 'present', definition: state.definition, ...disabledOf(state), circuit: event.data };
    case 'DestinationCircuitClosed':
      return { tag: 'present', definition: state.definition, ...disabledOf(state) };
    case 'DestinationDeleted':
      return { tag: 'deleted', definition: state.definition };
  }
}

const disabledOf = (state: DestinationState): { readonly disabled?: string } =>
  state.tag === 'present' && state.disabled !== undefined ? { disabled: state.disabled } : {};

const withDefinition = (
  state: Exclude<DestinationState, { tag: 'absent' }>,
  definition: DestinationDefinition,
): DestinationState =>
  state.tag === 'present' ? { tag: 'present', definition, ...disabledOf(state) } : { tag: 'deleted', definition };

export const destination = {
  category: 'destination',
  initial: { tag: 'absent' } as DestinationState,
  decide,
  evolve,
  subject: (_: DestinationState, id: string) => `destination:${id}`,
} as const;
