import type { ChannelAdapter } from '../../src/channels/channel.js';
import { delivery } from '../../src/domain/delivery.js';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import type { DeliveryState } from '../../src/domain/delivery-state.js';
import type { SubscribeOptions, SubscriptionBatch } from '../../src/event-store/event-store.js';
import type { SendOrder } from '../../src/sagas/decisions.js';
import type { EngineParts } from '../../src/sagas/engine.js';
import type { Checkpoint } from '../../src/sagas/engine-store.js';

/** Ways to put a defect into the product, and to take it out again. */

type Decide = typeof delivery.decide;
export type Order = Parameters<SendOrder>[0];
type Answer = Awaited<ReturnType<SendOrder>>;

/** The same object with some of its methods replaced; the others keep their private fields. */
export function replaced<Thing extends object>(thing: Thing, methods: Partial<Thing>): Thing {
  return new Proxy(thing, {
    get(target, name) {
      const method = Reflect.get(methods, name) ?? Reflect.get(target, name);
      return typeof method === 'function' ? method.bind(target) : method;
    },
  });
}

export const withOrder = (change: (order: Order, send: SendOrder) => Promise<Answer>) => ({
  wire: (parts: EngineParts): EngineParts => ({ ...parts, order: (order) => change(order, parts.order) }),
});

export const withSave = (
  change: (checkpoint: Checkpoint, save: EngineParts['store']['save']) => Promise<number[]>,
) => ({
  wire: (parts: EngineParts): EngineParts => {
    const save: EngineParts['store']['save'] = (checkpoint) => parts.store.save(checkpoint);
    return { ...parts, store: replaced(parts.store, { save: (checkpoint) => change(checkpoint, save) }) };
  },
});

export const withBatches = (change: (batch: SubscriptionBatch) => SubscriptionBatch) => ({
  wire: (parts: EngineParts): EngineParts => {
    async function* subscribe(options: SubscribeOptions) {
      for await (const batch of parts.reader.subscribe(options)) yield change(batch);
    }
    return { ...parts, reader: replaced(parts.reader, { subscribe }) };
  },
});

export const withSend = (
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
export function patched<Thing extends object>(
  prototype: Thing,
  methods: (original: Thing) => Partial<Thing>,
): () => void {
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

/** The decider of deliveries, which decides otherwise. */
export const withDecide = (change: (decide: Decide, ...given: Parameters<Decide>) => ReturnType<Decide>) => ({
  patch: () =>
    patched(delivery as { decide: Decide }, ({ decide }) => ({ decide: (...given) => change(decide, ...given) })),
});

/** Changes the events of a decision. */
export const withEvents = (change: (events: readonly DeliveryEvent[], state: DeliveryState) => DeliveryEvent[]) =>
  withDecide((decide, command, state) => {
    const decision = decide(command, state);
    return decision.ok ? { ok: true, events: change(decision.events, state) } : decision;
  });

/** As if it had been stored. */
export const pretended = ({ known }: Order): Answer => ({
  ...{ ok: true, state: known?.state ?? { tag: 'absent' }, revision: known?.revision, events: [] },
  position: 1n,
});
