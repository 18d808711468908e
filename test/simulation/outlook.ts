import type { DeliveryState } from '../../src/domain/delivery-state.js';

/** What comes next for a delivery, judged by its state alone. */
export type Outlook =
  /** Nothing more happens by itself, and that is how it should be or can be seen. */
  | { readonly is: 'over' }
  | { readonly is: 'waiting for people' }
  | { readonly is: 'waiting for time'; readonly untilMs: number }
  /** Something should happen now. */
  | { readonly is: 'due'; readonly sinceMs: number; readonly what: string };

const over: Outlook = { is: 'over' };
const people: Outlook = { is: 'waiting for people' };
const due = (what: string, sinceMs = 0): Outlook => ({ is: 'due', sinceMs, what });

/**
 * Written without a look at the engine's own idea of it (`react`), so that the two are compared.
 *
 * @param nowMs by the database's clock, Unix milliseconds
 */
export function outlookOf(state: DeliveryState, nowMs: number, stateOf: (id: string) => DeliveryState): Outlook {
  if (state.tag === 'absent' || state.tag === 'settled' || state.tag === 'ended') return over;
  if (state.legs.some(({ progress }) => progress.tag === 'attempting')) return due('an attempt is under way');
  const times: number[] = [];
  const isOver = (time: string | undefined): boolean => {
    if (time === undefined) return false;
    times.push(Date.parse(time));
    return Date.parse(time) <= nowMs;
  };
  if (isOver(state.request.expiresAt)) return due('it expires', times[0]);
  const result = state.tag === 'held' ? ofHeld(state, isOver, stateOf) : ofActive(state, isOver);
  if (result) return result.is === 'due' && times.length > 0 ? { ...result, sinceMs: Math.min(...times) } : result;
  return times.length > 0 ? { is: 'waiting for time', untilMs: Math.min(...times) } : people;
}

function ofHeld(
  { holds }: Extract<DeliveryState, { tag: 'held' }>,
  isOver: (time: string | undefined) => boolean,
  stateOf: (id: string) => DeliveryState,
): Outlook | undefined {
  if (isOver(holds.schedule)) return due('its schedule is reached');
  if (isOver(holds.approval?.deadline)) return due('its approval is too late');
  const decided = holds.dependencies.find((id) => isDecided(stateOf(id)));
  if (decided !== undefined) return due('a delivery it waits for has ended');
  const isWaiting = holds.schedule !== undefined || holds.approval !== undefined || holds.dependencies.length > 0;
  return isWaiting ? undefined : due('nothing holds it');
}

function ofActive(
  { legs }: Extract<DeliveryState, { tag: 'active' }>,
  isOver: (time: string | undefined) => boolean,
): Outlook | undefined {
  for (const { leg, progress } of legs) {
    if (progress.tag === 'failing') return due(`leg ${leg} has failed and nothing follows`);
    if (progress.tag === 'ready') return due(`leg ${leg} is ready`);
    if (progress.tag === 'retrying' && isOver(progress.dueAt)) return due(`leg ${leg} is to be retried`);
  }
  const isOpen = legs.some(({ progress }) => progress.tag === 'retrying' || progress.tag === 'doubtful');
  return isOpen ? undefined : due('no leg of it is open');
}

/** Whether what waits for it knows what to do. A failed one can be retried, so that is no decision. */
const isDecided = (state: DeliveryState): boolean =>
  state.tag === 'ended'
    ? state.as !== 'FAILED'
    : state.tag === 'settled' && state.legs.every(({ progress }) => progress.tag === 'delivered');
