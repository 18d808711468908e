import { createClient } from 'graphql-ws';
import { afterAll, beforeAll, expect, it } from 'vitest';
import WebSocket from 'ws';
import { Cluster, type Instance } from '../support/cluster.js';

/** Two Waybills, each in a process of its own, on one EventStoreDB (the test server) and one Postgres. */
let cluster: Cluster;
let here: Instance;
let there: Instance;

beforeAll(async () => {
  cluster = await Cluster.open();
  here = await cluster.join();
  there = await cluster.join();
}, 400_000);
afterAll(() => cluster?.close(), 60_000);

it('a key that is revoked at one process is refused at the other, and its subscriptions there end within seconds', {
  timeout: 120_000,
}, async () => {
  const { createApiKey } = await here.waybill.ask<{ createApiKey: { secret: string; apiKey: { id: string } } }>(
    `mutation { createApiKey(input: { organizationId: "org-a", name: "a program", roles: ["auditor"] }) { secret apiKey { id } } }`,
  );
  const { secret, apiKey } = createApiKey;
  const ask = async () => {
    const response = await fetch(`${there.waybill.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${secret}` },
      body: '{"query":"{ me { actor } }"}',
    });
    return response.status;
  };
  await expect.poll(ask, { timeout: 30_000 }).toBe(200);

  let isConnected = false;
  const closed = new Promise<{ readonly code: number; readonly at: number }>((resolve) => {
    const client = createClient({
      url: `${there.waybill.url.replace('http', 'ws')}/graphql`,
      webSocketImpl: WebSocket,
      connectionParams: { authorization: `Bearer ${secret}` },
      retryAttempts: 0,
      on: {
        connected: () => {
          isConnected = true;
        },
        closed: (event) => resolve({ code: (event as { code: number }).code, at: performance.now() }),
      },
    });
    const events = client.iterate({ query: 'subscription { deliveryUpdated { id } }' });
    void events.next().catch(() => undefined);
  });
  await expect.poll(() => isConnected, { timeout: 30_000 }).toBe(true);

  await here.waybill.ask(`mutation { revokeApiKey(id: "${apiKey.id}", reason: "left in a repository") { status } }`);
  const revokedAt = performance.now();
  const { code, at } = await closed;
  expect(code).toBe(4403);
  // A second between two looks at the sockets, and time for the news; ten for a slow machine.
  expect(at - revokedAt).toBeLessThan(10_000);
  expect(await ask()).toBe(401);
});
