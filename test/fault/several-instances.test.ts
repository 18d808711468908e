import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Cluster, type Instance } from '../support/cluster.js';
import { auditMails, auditWebhooks, expectSameAfterRebuild } from '../support/fault-audit.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';

/**
 * FAULTS.md, the rows of several instances: they share one EventStoreDB (the test server) and one Postgres, and are
 * killed, stopped for longer than their leases last, and started again.
 *
 * The short form is part of the tests; `npm run test:fault` runs the long one.
 */
const isLong = process.env.FAULT_LONG === '1';
const DELIVERIES = isLong ? 20_000 : 600;
const KILLS = isLong ? 100 : 4;
const BULK = 20;
/** Of each bulk so many go by e-mail, whose receiver cannot tell that a message came twice. */
const MAILS = 2;
const INSTANCES = 3;
/** A lease lasts 10 s, and whoever takes it over looks once a second. */
const TAKE_OVER_MS = 15_000;
/** One in so many victims stays away until others have taken over what it had. */
const LONG_ABSENCES = 10;

let cluster: Cluster;
let receiver: WebhookReceiver;
let smtp: SmtpPeer;

beforeAll(async () => {
  [receiver, smtp] = await Promise.all([startWebhookReceiver(), startSmtpPeer()]);
});
afterAll(async () => {
  await Promise.all([receiver.close(), smtp.close()]);
});

beforeEach(async () => {
  cluster = await Cluster.open();
  receiver.received.length = 0;
  receiver.respond = () => ({ status: 204 });
  smtp.received.length = 0;
}, 240_000);
afterEach(() => cluster?.close());

const shares = () => cluster.shares();

const webhook = (text: string, more: object = {}) => ({
  organizationId: 'hospital-001',
  content: { text },
  to: [{ channel: 'WEBHOOK', address: receiver.url }],
  ...more,
});

const untilStatuses = (statuses: Record<string, number>, timeout: number) =>
  expect.poll(() => cluster.statuses(), { timeout, interval: 200 }).toEqual(statuses);

describe('several instances', () => {
  it('share the deliveries, also when one joins, leaves or dies', { timeout: 120_000 }, async () => {
    const first = await cluster.join();
    await expect.poll(shares, { timeout: 10_000 }).toEqual([16]);
    const second = await cluster.join();
    await expect.poll(shares, { timeout: 15_000 }).toEqual([8, 8]);
    const third = await cluster.join();
    await expect.poll(shares, { timeout: 15_000 }).toEqual([4, 6, 6]);

    // Each of them takes a request, for whichever partition, and each can be asked about all of them.
    const ids: string[] = [];
    for (const [index, { waybill }] of [first, second, third].entries()) {
      const inputs = Array.from({ length: 20 }, (_, item) => webhook(`${index}/${item}`));
      const { requestDeliveries } = await waybill.ask<{ requestDeliveries: { delivery: { id: string } }[] }>(
        'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
        { inputs },
      );
      ids.push(...requestDeliveries.map(({ delivery }) => delivery.id));
    }
    await untilStatuses({ DELIVERED: 60 }, 30_000);
    for (const { waybill } of [first, second, third])
      expect(await waybill.ask('{ deliveries(filter: { status: [DELIVERED] }) { totalCount } }')).toEqual({
        deliveries: { totalCount: 60 },
      });
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(60);

    expect(await third.waybill.stop()).toMatchObject({ code: 0 });
    await expect.poll(shares, { timeout: 5_000 }).toEqual([8, 8]);
    await second.waybill.kill();
    await expect.poll(shares, { timeout: TAKE_OVER_MS }).toEqual([16]);
  });

  it('wait for each other’s deliveries', { timeout: 120_000 }, async () => {
    await cluster.join();
    await cluster.join();
    await expect.poll(shares, { timeout: 15_000 }).toEqual([8, 8]);
    receiver.respond = async () => {
      await delay(300);
      return { status: 204 };
    };
    const first = await cluster.request(
      'first',
      Array.from({ length: 12 }, (_, n) => webhook(`first ${n}`)),
    );
    // Each waits for one that is as likely as not another instance's, and that may have ended before it is heard of.
    await cluster.request(
      'second',
      first.map((id, n) => webhook(`second ${n}`, { dependsOn: [id] })),
    );
    await untilStatuses({ DELIVERED: 24 }, 20_000);
  });

  it('one that was stopped for longer than its leases last commits nothing', { timeout: 120_000 }, async () => {
    const paused = await cluster.join();
    await expect.poll(shares, { timeout: 10_000 }).toEqual([16]);
    // Its attempts are under way, and their outcomes not yet known, when it is stopped.
    let answer = () => {};
    const asked = new Promise<void>((resolve) => {
      receiver.respond = async () => {
        resolve();
        await new Promise<void>((go) => {
          const before = answer;
          answer = () => {
            before();
            go();
          };
        });
        return { status: 500 };
      };
    });
    const ids = await cluster.request(
      'paused',
      Array.from({ length: 10 }, (_, n) => webhook(`paused ${n}`)),
    );
    await asked;
    process.kill(paused.waybill.pid, 'SIGSTOP');
    receiver.respond = () => ({ status: 204 });
    const [owner] = Object.keys(await cluster.partitions());
    const second = await cluster.join();
    const owners = async () => Object.keys(await cluster.partitions());
    await expect.poll(owners, { timeout: TAKE_OVER_MS }).not.toContain(owner);
    await expect.poll(shares, { timeout: TAKE_OVER_MS }).toEqual([16]);
    await untilStatuses({ DELIVERED: 10 }, 20_000);
    const events = async () => {
      const { deliveries } = await second.waybill.ask<{ deliveries: { edges: { node: { history: object[] } }[] } }>(
        '{ deliveries { edges { node { history { type } } } } }',
      );
      return deliveries.edges.map(({ node }) => node.history);
    };
    const truth = await events();
    answer();
    process.kill(paused.waybill.pid, 'SIGCONT');
    // It has come to, and shares the work again, once it has found out.
    await expect.poll(shares, { timeout: 20_000 }).toEqual([8, 8]);
    expect(await events()).toEqual(truth);
    expect(truth.flat()).toEqual(ids.flatMap(() => [{ type: 'DeliveryRequested' }, { type: 'AttemptSucceeded' }]));
    await expectSameAfterRebuild(second.waybill, () => cluster.digests());
  });

  it(`${DELIVERIES} deliveries, ${KILLS} times kill -9`, { timeout: isLong ? 3_600_000 : 240_000 }, async () => {
    for (let count = 0; count < INSTANCES; count++) await cluster.join();
    const [first] = cluster.instances as [Instance];
    const config = { service: 'smtp', host: smtp.host, port: smtp.port, from: 'audit@hospital.com' };
    const { createDestination: mailbox } = await first.waybill.ask<{ createDestination: { id: string } }>(
      'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }',
      {
        input: {
          ...{ organizationId: 'hospital-001', label: 'Audit', type: 'EMAIL' },
          config: { email: { ...config, recipients: ['ada@example.com'] } },
        },
      },
    );

    let kills = 0;
    const arrived = () => receiver.received.length + smtp.received.length;
    const returns: Promise<void>[] = [];
    const killer = (async () => {
      for (; kills < KILLS; kills++) {
        const before = arrived();
        while (arrived() < before + DELIVERIES / KILLS / 4) await delay(5);
        // Not a wait for anything: the kill is to come at any moment of what is going on.
        // Not a wait for anything: the kill is to come at any moment.
        await delay(Math.random() * 150);
        const up = cluster.instances.filter(({ isUp }) => isUp);
        const victim = up[Math.floor(Math.random() * up.length)] as Instance;
        await cluster.crash(victim);
        const back = (async () => {
          if (kills % LONG_ABSENCES === LONG_ABSENCES - 1) await delay(TAKE_OVER_MS);
          await cluster.restart(victim);
        })();
        returns.push(back);
        // One at least goes on; now and then two are away at once.
        if (up.length === 2 || Math.random() < 0.7) await Promise.all(returns);
      }
      await Promise.all(returns);
    })();

    const posted: string[] = [];
    const mailed = new Map<string, string>();
    const batches = DELIVERIES / BULK;
    for (let batch = 0; batch < batches; batch++) {
      // As much for each of the kills, so that each of them hits something.
      while (kills < Math.floor((batch / batches) * KILLS)) await Promise.race([delay(5), killer]);
      const inputs = Array.from({ length: BULK }, (_, item) => {
        const text = `delivery ${batch}/${item}`;
        return item < MAILS ? webhook(text, { to: [{ destinationId: mailbox.id }] }) : webhook(text);
      });
      const ids = await cluster.request(`batch-${batch}`, inputs);
      for (const [item, id] of ids.entries())
        if (item < MAILS) mailed.set(`delivery ${batch}/${item}`, id);
        else posted.push(id);
    }
    await killer;

    const all = [...posted, ...mailed.values()];
    expect(new Set(all).size).toBe(DELIVERIES);
    await untilStatuses({ DELIVERED: posted.length, SENT: mailed.size }, 120_000);
    const { again } = await auditWebhooks(
      cluster.sql,
      posted,
      receiver.received.map(({ headers }) => headers['webhook-id'] as string),
    );
    const mails = new Map<string, number>();
    for (const { mail } of smtp.received) {
      const id = mailed.get(mail.text?.trim() ?? '') ?? 'of nobody';
      mails.set(id, (mails.get(id) ?? 0) + 1);
    }
    const doubts = await auditMails(cluster.sql, [...mailed.values()], mails);
    await expectSameAfterRebuild(first.waybill, () => cluster.digests());
    if (isLong)
      console.info(
        `posts that came again: ${again}; mails in doubt: ${doubts.inDoubt}, of which again: ${doubts.again}`,
      );
  });
});
