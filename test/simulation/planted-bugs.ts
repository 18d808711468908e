import type { ChannelAdapter } from '../../src/channels/channel.js';
import type { SubscribeOptions, SubscriptionBatch } from '../../src/event-store/event-store.js';
import { SharedClock } from '../../src/sagas/clock.js';
import type { SendOrder } from '../../src/sagas/decisions.js';
import type { EngineParts } from '../../src/sagas/engine.js';
import type { Checkpoint } from '../../src/sagas/engine-store.js';
import { Leases } from '../../src/sagas/leases.js';
import { ProcessTable } from '../../src/sagas/process-table.js';
import { WakeQueue } from '../../src/sagas/wake-queue.js';
import type { Rule } from './history.js';
import type { PlantedBug } from './instance.js';

export interface KnownBug extends PlantedBug {
  readonly name: string;
  /** What it may break first. */
  readonly breaks: readonly Rule[];
}

type Order = Parameters<SendOrder>[0];
type Answer = Awaited<ReturnType<SendOrder>>;

/** The same object with some of its methods replaced; the others keep their private fields. */
function replaced<Thing extends object>(thing: Thing, methods: Partial<Thing>): Thing {
  return new Proxy(thing, {
    get(target, name) {
      const method = Reflect.get(methods, name) ?? Reflect.get(target, name);
      return typeof method === 'function' ? method.bind(target) : method;
    },
  });
}

const withOrder = (change: (order: Order, send: SendOrder) => Promise<Answer>) => ({
  wire: (parts: EngineParts): EngineParts => ({ ...parts, order: (order) => change(order, parts.order) }),
});

const withSave = (change: (checkpoint: Checkpoint, save: EngineParts['store']['save']) => Promise<number[]>) => ({
  wire: (parts: EngineParts): EngineParts => {
    const save: EngineParts['store']['save'] = (checkpoint) => parts.store.save(checkpoint);
    return { ...parts, store: replaced(parts.store, { save: (checkpoint) => change(checkpoint, save) }) };
  },
});

const withBatches = (change: (batch: SubscriptionBatch) => SubscriptionBatch) => ({
  wire: (parts: EngineParts): EngineParts => {
    async function* subscribe(options: SubscribeOptions) {
      for await (const batch of parts.reader.subscribe(options)) yield change(batch);
    }
    return { ...parts, reader: replaced(parts.reader, { subscribe }) };
  },
});

const withSend = (
  send: (adapter: ChannelAdapter, ...given: Parameters<ChannelAdapter['send']>) => ReturnType<ChannelAdapter['send']>,
) => ({
  wire: (parts: EngineParts): EngineParts => {
    const resolve: EngineParts['targets']['resolve'] = async (...given) => {
      const target = await parts.targets.resolve(...given);
      if (!target.ok) return target;
      const { adapter } = target;
      return { ...target, adapter: replaced(adapter, { send: (...message) => send(adapter, ...message) }) };
    };
    return { ...parts, targets: replaced(parts.targets, { resolve }) };
  },
});

/** Replaces methods of a class until it is taken back. */
function patched<Thing extends object>(prototype: Thing, methods: (original: Thing) => Partial<Thing>): () => void {
  const original = Object.getOwnPropertyDescriptors(prototype);
  const kept = Object.create(null, original) as Thing;
  const replacing = methods(kept);
  for (const [name, method] of Object.entries(replacing))
    Object.defineProperty(prototype, name, { ...original[name as keyof typeof original], value: method });
  return () => {
    for (const name of Object.keys(replacing))
      Object.defineProperty(prototype, name, original[name as keyof typeof original] as PropertyDescriptor);
  };
}

/** As if it had been stored. */
const pretended = ({ known }: Order): Answer => ({
  ...{ ok: true, state: known?.state ?? { tag: 'absent' }, revision: known?.revision, events: [] },
  position: 1n,
});

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
    breaks: ['call for a reason'],
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
];

const morePatient = (command: Extract<Order['command'], { type: 'RecordOutcome' }>, by: number) => ({
  ...command,
  policy: { ...command.policy, maxAttempts: Math.max(command.policy.maxAttempts + by, 1) },
});
