import { afterEach, beforeEach, expect, it } from 'vitest';
import { delivery } from '../../../src/domain/delivery.js';
import { retryPolicy } from '../../../src/domain/retry-policy.js';
import { Attempts } from '../../../src/sagas/attempt.js';
import type { Target, Targets } from '../../../src/sagas/targets.js';
import { ada, type CommandSide, commandSide, good } from '../../support/commands.js';
import { existing, legOf, ORGANIZATION } from '../../support/deliveries.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

/** An instance that believes it owns the delivery; it stores decisions as the engine does. */
function owner(send: () => void): Attempts {
  const adapter = {
    describe: () => ({ idempotency: 'none', inDoubt: 'resend', limits: { timeoutMs: 10_000 } }),
    send: async () => {
      send();
      return { kind: 'accepted', delivered: false };
    },
  };
  const target = { ok: true, adapter, config: {}, provider: 'smtp', policy: retryPolicy() } as unknown as Target;
  return new Attempts({
    targets: { resolve: async () => target } as unknown as Targets,
    decide: async (id, command, commandId) => {
      const envelope = { organizationId: ORGANIZATION, commandId, actor: 'engine' };
      const result = await side.executor.execute(delivery, { id, command, envelope });
      return result.ok && result.position !== undefined;
    },
    now: () => new Date().toISOString(),
    disableDestination: async () => {},
    hasOtherProvider: () => false,
    onBug: (error) => {
      throw error;
    },
  });
}

it.each(['at once', 'one after the other'])(
  'two owners of a delivery make one call where nothing protects its receiver: %s',
  async (when) => {
    const input = { to: [{ channel: 'EMAIL', address: 'ada@example.com', provider: 'smtp' }] } as const;
    const { id, state } = good(await side.deliveries.request({ input, requester: ada }));
    const pass = { end: () => undefined, pause: () => undefined };
    const mayBegin = async () => true;
    const work = { deliveryId: id, state: existing(state), leg: legOf(state), pass, mayBegin };
    let calls = 0;
    const run = () => owner(() => calls++).run(work);
    if (when === 'at once') await Promise.all([run(), run()]);
    else for (const _ of [1, 2]) await run();
    expect(calls).toBe(1);
  },
);
