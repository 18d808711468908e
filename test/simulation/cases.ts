import { absent, type DeliveryState, type Leg } from '../../src/domain/delivery-state.js';
import type { Call } from './providers.js';
import type { Host } from './scheduler.js';

/** The type of an event that this program does not know. */
export const POISON = 'FromALaterVersion';

/** One delivery as it really is. */
export interface Case {
  readonly id: string;
  readonly name: string;
  /** The state after each event. */
  readonly states: { readonly position: bigint; readonly state: DeliveryState }[];
  readonly calls: CaseCall[];
  lastEventMs: number;
  /** Its stream holds what nobody understands. */
  isPoisoned: boolean;
  /** `leg/number` of attempts that were recorded before their call → who may make it. */
  readonly started: Map<string, Host>;
  /** `leg/number` of attempts that were declared in doubt. */
  readonly doubts: Set<string>;
  /** `leg/round/route` → numbers of the attempts. */
  readonly attempts: Map<string, Set<number>>;
  /** `leg/round/route` → attempts that a person has asked for, having found out that one was not sent. */
  readonly wishes: Map<string, number>;
}

/** A call, and which leg and attempt it is for; only attempts that are recorded first have a number before. */
export interface CaseCall {
  readonly call: Call;
  readonly leg: number;
  readonly route: number;
  readonly attempt: number | undefined;
}

export type Existing = Exclude<DeliveryState, { tag: 'absent' }>;

export const newCase = (id: string, name: string): Case => ({
  ...{ id, name, states: [], calls: [], lastEventMs: 0, isPoisoned: false },
  ...{ started: new Map(), doubts: new Set(), attempts: new Map(), wishes: new Map() },
});

export const stateOf = ({ states }: Case): DeliveryState => states.at(-1)?.state ?? absent;

export const legOf = (state: DeliveryState, number: number): Leg | undefined =>
  state.tag === 'absent' ? undefined : state.legs.find(({ leg }) => leg === number);
