import { Deliveries } from '../../src/commands/deliveries.js';
import { newId } from '../../src/commands/ids.js';
import { Intake } from '../../src/commands/intake.js';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { SharedClock } from '../../src/sagas/clock.js';
import { Dispatcher } from '../../src/sagas/dispatcher.js';
import { Gate } from '../../src/sagas/fair-queue.js';
import { Leases } from '../../src/sagas/leases.js';
import { ProcessTable } from '../../src/sagas/process-table.js';
import { WakeQueue } from '../../src/sagas/wake-queue.js';
import type { Rule } from './history.js';
import type { PlantedBug } from './instance.js';
import {
  type Order,
  patched,
  pretended,
  withBatches,
  withDecide,
  withEvents,
  withOrder,
  withSave,
  withSend,
} from './plant.js';

export interface KnownBug extends PlantedBug {
  readonly name: string;
  /** What it may break first. */
  readonly breaks: readonly Rule[];
}

/** A defect of each kind that the simulation is there to find. */
export const KNOWN_BUGS: readonly KnownBug[] = [
  {
    name: 'an attempt is not recorded before its call',
    breaks: ['one call for each attempt'],
    ...withOrder(async (order, send) => (order.command.type === 'StartAttempt' ? pretended(order) : send(order))),
  },
  {
    name: 'a lease is never over',
    breaks: ['lease before append'],
    patch: () =>
      patched(Leases.prototype, () => ({
        isValid(this: Leases, partition) {
          return this.has(partition);
        },
        isOpen(this: Leases, partition) {
          return this.has(partition);
        },
      })),
  },
  {
    name: 'who has lost a partition goes on as if nothing had been said',
    breaks: ['lease before append'],
    ...withSave(async (checkpoint, save) => {
      await save(checkpoint);
      return [];
    }),
  },
  {
    name: 'every other timer is forgotten',
    breaks: ['all end'],
    patch() {
      let timers = 0;
      return patched(WakeQueue.prototype, (original) => ({
        set(this: WakeQueue, id, dueMs) {
          if (timers++ % 2 === 0) original.set.call(this, id, dueMs);
        },
      }));
    },
  },
  {
    name: 'timers run ahead of the database’s clock',
    breaks: ['times are kept'],
    patch: () =>
      patched(SharedClock.prototype, (original) => ({
        nowMs(this: SharedClock) {
          return original.nowMs.call(this) + 2_000;
        },
      })),
  },
  {
    name: 'time is what the instance takes it for',
    breaks: ['times are kept'],
    patch: () => patched(SharedClock.prototype, () => ({ set: () => undefined, nowMs: () => Date.now() })),
  },
  {
    name: 'it acts while it catches up',
    breaks: ['nothing twice on replay', 'call for a reason'],
    ...withBatches((batch) => ({ ...batch, caughtUp: true })),
  },
  {
    name: 'an event of each batch is passed over',
    breaks: ['all end', 'streams fold', 'steady work', 'table is as the log', 'call for a reason'],
    ...withBatches((batch) => ({ ...batch, events: batch.events.slice(0, Math.max(batch.events.length - 1, 1)) })),
  },
  {
    name: 'nobody is woken by the end of what it waits for',
    breaks: ['all end'],
    patch: () => patched(ProcessTable.prototype, () => ({ waitersOf: () => [] })),
  },
  {
    name: 'a refusal is recorded as a success',
    breaks: ['receipts agree'],
    ...withOrder(({ command, ...order }, send) =>
      send({
        ...order,
        command:
          command.type === 'RecordOutcome' ? { ...command, outcome: { kind: 'accepted', delivered: true } } : command,
      }),
    ),
  },
  {
    name: 'an outcome is lost',
    breaks: ['all end'],
    ...withOrder(async (order, send) => (order.command.type === 'RecordOutcome' ? pretended(order) : send(order))),
  },
  {
    name: 'a doubt is forgotten',
    breaks: ['all end', 'doubts are shown'],
    ...withOrder(async (order, send) => (order.command.type === 'DeclareInDoubt' ? pretended(order) : send(order))),
  },
  {
    name: 'one attempt too many',
    breaks: ['attempts as allowed'],
    ...withOrder(({ command, ...order }, send) =>
      send({ ...order, command: command.type === 'RecordOutcome' ? morePatient(command, 1) : command }),
    ),
  },
  {
    name: 'it gives up too soon',
    breaks: ['dead letters at last'],
    ...withOrder(({ command, ...order }, send) =>
      send({ ...order, command: command.type === 'RecordOutcome' ? morePatient(command, -1) : command }),
    ),
  },
  {
    name: 'the last row is left out of each checkpoint',
    breaks: ['table is as the log', 'all end'],
    ...withSave((checkpoint, save) => save({ ...checkpoint, open: checkpoint.open.slice(0, -1) })),
  },
  {
    name: 'rows of what has ended are left',
    breaks: ['table is as the log'],
    ...withSave((checkpoint, save) => save({ ...checkpoint, closed: [] })),
  },
  {
    name: 'each attempt has a key of its own',
    breaks: ['same key'],
    ...withSend((adapter, message, options) =>
      adapter.send(message, { ...options, attemptKey: `${options.attemptKey}/${Math.random()}` }),
    ),
  },
  {
    name: 'a provider is called twice',
    breaks: ['one call for each attempt'],
    ...withSend(async (adapter, message, options) => {
      await adapter.send(message, options);
      return await adapter.send(message, options);
    }),
  },
  {
    name: 'a request is acknowledged that is not stored',
    breaks: ['acknowledged is recorded'],
    patch: () =>
      patched(Deliveries.prototype, (original) => ({
        async request(this: Deliveries, given) {
          if (given.input.priority !== 'HIGH') return await original.request.call(this, given);
          const id = newId();
          return {
            ...{ ok: true, id, replayed: false, state: { tag: 'absent' }, revision: 0 },
            events: [],
            position: 1n,
          };
        },
      })),
  },
  {
    name: 'keys of requests are not looked at',
    breaks: ['acknowledged is recorded'],
    patch: () =>
      patched(Intake.prototype, (original) => ({
        prepare(this: Intake, { idempotencyKey: _, ...input }, ...rest) {
          return original.prepare.call(this, input, ...rest);
        },
      })),
  },
  {
    name: 'who has approved can approve again',
    breaks: ['approval before attempt'],
    ...withDecide((decide, command, state) => {
      const approval = state.tag === 'held' && command.type === 'Approve' ? state.holds.approval : undefined;
      if (state.tag !== 'held' || !approval) return decide(command, state);
      return decide(command, { ...state, holds: { ...state.holds, approval: { ...approval, approvedBy: [] } } });
    }),
  },
  {
    name: 'a fallback is skipped',
    breaks: ['routes in order'],
    ...withEvents((events) =>
      events.map((event) =>
        event.type === 'FallbackChosen'
          ? { type: 'LegDeadLettered', at: event.at, data: { leg: event.data.leg, failure: event.data.failure } }
          : event,
      ),
    ),
  },
  {
    name: 'a retry follows although the delivery has ended',
    breaks: ['ended is ended'],
    ...withEvents((events, state) => {
      const [last] = events.slice(-1);
      if (last?.type !== 'AttemptFailed' || state.tag !== 'ended') return [...events];
      const { at, data } = last;
      return [...events, { type: 'RetryScheduled', at, data: { leg: data.leg, dueAt: at } }];
    }),
  },
  {
    name: 'a request is stored behind what follows from it',
    breaks: ['streams fold'],
    ...withEvents((events) =>
      events.flatMap((event): DeliveryEvent[] =>
        event.type === 'DeliveryRequested' && event.data.priority === 'LOW'
          ? [{ type: 'ScheduleReached', at: event.at, data: {} }, event]
          : [event],
      ),
    ),
  },
  {
    name: 'the failure of a dependency passes for its delivery',
    breaks: ['dependencies first'],
    ...withOrder(({ command, ...order }, send) => {
      if (command.type !== 'ResolveDependency') return send({ command, ...order });
      const { failure: _, ...satisfied } = command;
      return send({ command: satisfied, ...order });
    }),
  },
  {
    name: 'a doubt about what was cancelled is hidden',
    breaks: ['doubts are shown'],
    ...withOrder(async (order, send) =>
      order.command.type === 'DeclareInDoubt' && order.known?.state.tag === 'ended' ? pretended(order) : send(order),
    ),
  },
  {
    name: 'what was accepted is sent once more, much later',
    breaks: ['call for a reason'],
    ...withSend(async (adapter, message, options) => {
      const outcome = await adapter.send(message, options);
      if (adapter.describe().idempotency !== 'none') setTimeout(() => void adapter.send(message, options), 15_000);
      return outcome;
    }),
  },
  {
    name: 'what people have cancelled goes on',
    breaks: ['call for a reason', 'table is as the log'],
    ...withBatches((batch) => ({
      ...batch,
      events: batch.events.filter(({ type }) => type !== 'DeliveryCancelled'),
    })),
  },
  {
    name: 'what is not urgent never has its turn',
    breaks: ['all end'],
    patch: () =>
      patched(Dispatcher.prototype, (original) => ({
        add(this: Dispatcher, state, leg, run) {
          return original.add.call(this, state, leg, state.request.priority === 'LOW' ? async () => undefined : run);
        },
      })),
  },
  {
    name: 'a gate that opens wakes nobody',
    breaks: ['all end'],
    patch: () => patched(Gate.prototype, () => ({ wake: () => undefined })),
  },
  {
    name: 'whoever came first keeps everything',
    breaks: ['work is shared'],
    patch: () => patched(Leases.prototype, () => ({ leaveSurplus: () => [] })),
  },
  {
    name: 'what has ended stays in memory',
    breaks: ['steady work'],
    patch: () => patched(ProcessTable.prototype, () => ({ remove: () => undefined })),
  },
  {
    name: 'a rejection is nobody’s',
    breaks: ['no loose ends'],
    ...withSend((adapter, message, options) => {
      void Promise.reject(new Error('a promise that nobody waits for'));
      return adapter.send(message, options);
    }),
  },
];

const morePatient = (command: Extract<Order['command'], { type: 'RecordOutcome' }>, by: number) => ({
  ...command,
  policy: { ...command.policy, maxAttempts: Math.max(command.policy.maxAttempts + by, 1) },
});
