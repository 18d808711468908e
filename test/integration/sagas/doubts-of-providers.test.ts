import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import type { ChannelAdapter, LookupResult } from '../../../src/channels/channel.js';
import type { DeliveryCommand } from '../../../src/domain/delivery-commands.js';
import { defaultRetryPolicy } from '../../../src/domain/retry-policy.js';
import { type Doubt, Doubts } from '../../../src/sagas/doubts.js';
import type { Targets } from '../../../src/sagas/targets.js';

const doubt = (provider: string, deliveryId = randomUUID()) =>
  ({
    deliveryId,
    state: {
      request: { organizationId: 'clinic', content: { text: 'hello' } },
      requestedAt: '2026-03-02T12:00:00.000Z',
    },
    leg: { leg: 1, routes: [{ channel: 'SMS' }], attempts: 1, routeAttempts: 1 },
    attempt: { leg: 1, number: 1, route: 0, channel: 'SMS', provider, startedAt: '2026-03-02T12:00:00.000Z' },
  }) as unknown as Doubt;

it('a provider that says nothing holds up nobody’s doubts but its own', async () => {
  const decided: DeliveryCommand['type'][] = [];
  const stop = new AbortController();
  let asked = 0;
  const lookups: Record<string, ChannelAdapter['lookup']> = {
    silent: (_, { signal }) => {
      asked++;
      return new Promise((resolve) => {
        if (signal.aborted) resolve({ kind: 'unknown' });
        signal.addEventListener('abort', () => resolve({ kind: 'unknown' }));
      });
    },
    awake: async (): Promise<LookupResult> => ({ kind: 'found', providerMessageId: 'm', delivered: true }),
  };
  const resolve = async (_: unknown, provider: string) => ({
    ...{ ok: true, config: {}, provider, policy: defaultRetryPolicy },
    adapter: { describe: () => ({ inDoubt: 'hold', limits: { timeoutMs: 60_000 } }), lookup: lookups[provider] },
  });
  const doubts = new Doubts({
    targets: { resolve } as unknown as Targets,
    decide: async (_, { type }) => {
      decided.push(type);
      return true;
    },
    nowMs: Date.now,
    onBug: (error) => expect(error).toBeUndefined(),
    signal: stop.signal,
  });

  const many = Array.from({ length: 20 }, () => doubts.settle(doubt('silent')));
  expect(await doubts.settle(doubt('awake'))).toBe(true);
  expect(decided).toEqual(['RecordOutcome']);
  expect(asked).toBe(8);
  stop.abort();
  expect(await Promise.all(many)).toEqual(Array(20).fill(false));
});
