import type { SendOptions } from '../../src/channels/channel.js';
import { delivery } from '../../src/domain/delivery.js';
import { retryPolicy } from '../../src/domain/retry-policy.js';
import { Attempts, type AttemptWork } from '../../src/sagas/attempt.js';
import type { Target, Targets } from '../../src/sagas/targets.js';
import { ada, type CommandSide, good } from './commands.js';
import { existing, legOf, ORGANIZATION } from './deliveries.js';

/** An instance that believes it owns what it is given; it stores decisions as the engine does. */
export function owner({ executor }: CommandSide, send: (options: SendOptions) => void | Promise<void>): Attempts {
  const adapter = {
    describe: () => ({ idempotency: 'none', inDoubt: 'resend', limits: { timeoutMs: 10_000 } }),
    send: async (_message: unknown, options: SendOptions) => {
      await send(options);
      return { kind: 'accepted', delivered: false };
    },
  };
  const target = { ok: true, adapter, config: {}, provider: 'smtp', policy: retryPolicy() } as unknown as Target;
  return new Attempts({
    targets: { resolve: async () => target } as unknown as Targets,
    decide: async (id, command, commandId) => {
      const envelope = { organizationId: ORGANIZATION, commandId, actor: 'engine' };
      const result = await executor.execute(delivery, { id, command, envelope });
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

/** The first attempt of a new delivery by e-mail. */
export async function firstAttempt({ deliveries }: CommandSide): Promise<AttemptWork> {
  const input = { to: [{ channel: 'EMAIL', address: 'ada@example.com', provider: 'smtp' }] } as const;
  const { id, state } = good(await deliveries.request({ input, requester: ada }));
  const pass = { end: () => undefined, pause: () => undefined };
  return { deliveryId: id, state: existing(state), leg: legOf(state), pass, mayBegin: async () => true };
}
