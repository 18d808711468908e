import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { WaybillProcess } from './waybill-process.js';

const ORGANIZATION = 'settled';
const LIVE = 'live';
const BULK = 20;
const REQUEST = `mutation ($inputs: [RequestDeliveryInput!]!, $key: String!) {
  requestDeliveries(inputs: $inputs, idempotencyKey: $key) { delivery { id } }
}`;
interface Requested {
  readonly requestDeliveries: readonly { readonly delivery: { readonly id: string } }[];
}

/** At whatever process runs now, until it answers. */
async function request(waybill: () => WaybillProcess, key: string, inputs: readonly object[]): Promise<string[]> {
  for (;;) {
    const answer = await waybill()
      .graphql<Requested>(REQUEST, { inputs, key })
      .catch(() => undefined);
    if (answer?.data) return answer.data.requestDeliveries.map(({ delivery }) => delivery.id);
    const wrong = answer?.errors.find(({ extensions }) => extensions?.code === 'BAD_USER_INPUT');
    if (wrong) throw new Error(wrong.message);
    await delay(20); // as a client pauses before it tries again
  }
}

interface Answer {
  readonly live: { readonly totalCount: number };
}

interface Settled {
  readonly deliveries: { readonly totalCount: number };
  readonly destination: { readonly health: { readonly totalDeliveries: number; readonly totalFailures: number } };
  readonly dashboard: readonly { readonly delivered: number }[];
}

/** Somebody who asks several read models all the time for deliveries that have ended, and so for the same. */
export class Asking {
  /**
   * Whether PostgreSQL dies meanwhile: queries may be refused for as long, and the last commits before its death, for
   * which nobody waits, are made again after it. What has ended before is never to be shown otherwise.
   */
  isWithoutDatabase = false;
  answers = 0;
  readonly #waybill: () => WaybillProcess;
  readonly #query: string;
  readonly #expected: string;
  readonly #wrong: unknown[] = [];
  #live = 0;
  #isOver = false;
  readonly #asked: Promise<void>;

  private constructor(waybill: () => WaybillProcess, query: string, expected: string) {
    this.#waybill = waybill;
    this.#query = query;
    this.#expected = expected;
    this.#asked = this.#ask();
  }

  /** @param count deliveries; they have been delivered before anything is asked */
  static async begin(waybill: () => WaybillProcess, url: string, count: number): Promise<Asking> {
    const { createDestination } = await waybill().ask<{ createDestination: { id: string } }>(
      'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }',
      { input: { organizationId: ORGANIZATION, label: 'archive', type: 'WEBHOOK', config: { webhook: { url } } } },
    );
    const one = { organizationId: ORGANIZATION, content: { text: 'x' }, to: [{ destinationId: createDestination.id }] };
    for (let done = 0; done < count; done += BULK)
      await request(waybill, `settled-${done}`, new Array(Math.min(BULK, count - done)).fill(one));
    const day = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString();
    const query = `{
      deliveries(first: 3, filter: { organizationId: "${ORGANIZATION}", status: [DELIVERED] }) {
        totalCount edges { node { id status attempts { number status } } } }
      destination(id: "${createDestination.id}") { label health { totalDeliveries totalFailures } }
      dashboard(organizationId: "${ORGANIZATION}", from: "${day(-2)}", to: "${day(2)}", bucket: "day") { total delivered }
      live: deliveries(first: 1, filter: { organizationId: "${LIVE}" }) { totalCount }
    }`;
    const settled = () => waybill().ask<Settled>(query);
    const counted = async () => {
      const { deliveries, destination, dashboard } = await settled();
      // On one day, or two when it is midnight.
      const delivered = dashboard.reduce((sum, day) => sum + day.delivered, 0);
      return { requested: deliveries.totalCount, ...destination.health, delivered };
    };
    await expect
      .poll(counted, { timeout: 120_000, interval: 50 })
      .toEqual({ requested: count, totalDeliveries: count, totalFailures: 0, delivered: count });
    return new Asking(waybill, query, JSON.stringify({ ...(await settled()), live: undefined }));
  }

  /** @returns answers that were not what they should be */
  async stop(): Promise<readonly unknown[]> {
    this.#isOver = true;
    await this.#asked;
    return this.#wrong;
  }

  async #ask(): Promise<void> {
    while (!this.#isOver) {
      const answer = await this.#waybill()
        .graphql<Answer>(this.#query)
        .catch(() => undefined);
      if (answer) this.#look(answer);
      await delay(25); // somebody who looks all the time, and leaves the machine to what is looked at
    }
  }

  #look({ data, errors }: Awaited<ReturnType<WaybillProcess['graphql']>>): void {
    const isUnavailable = errors.length > 0 && errors.every(({ extensions }) => extensions?.code === 'UNAVAILABLE');
    if (isUnavailable && this.isWithoutDatabase) return;
    this.answers++;
    const { live, ...settled } = (data ?? {}) as unknown as Answer;
    const isWhole = errors.length === 0 && JSON.stringify(settled) === this.#expected;
    const isLater = this.isWithoutDatabase || (isWhole && live.totalCount >= this.#live);
    if (isWhole && isLater) this.#live = live.totalCount;
    else if (this.#wrong.length < 10) this.#wrong.push({ data, errors, atLeast: this.#live, expected: this.#expected });
  }
}

/** Somebody who has deliveries made all the time. */
export class Recording {
  readonly #waybill: () => WaybillProcess;
  readonly #accepted: string[] = [];
  #isOver = false;
  readonly #recorded: Promise<void>;

  constructor(waybill: () => WaybillProcess, url: string) {
    this.#waybill = waybill;
    this.#recorded = this.#record(url);
  }

  /** @returns what was accepted */
  async stop(): Promise<readonly string[]> {
    this.#isOver = true;
    await this.#recorded;
    return this.#accepted;
  }

  async untilDelivered(): Promise<void> {
    const delivered = () =>
      this.#waybill().ask(
        `{ deliveries(first: 1, filter: { organizationId: "${LIVE}", status: [DELIVERED] }) { totalCount } }`,
      );
    const all = { deliveries: { totalCount: new Set(this.#accepted).size } };
    await expect.poll(delivered, { timeout: 60_000, interval: 50 }).toEqual(all);
  }

  async #record(url: string): Promise<void> {
    for (let turn = 0; !this.#isOver; turn++) {
      const one = { organizationId: LIVE, content: { text: `${turn}` }, to: [{ channel: 'WEBHOOK', address: url }] };
      this.#accepted.push(...(await request(this.#waybill, `live-${turn}`, [one, one, one])));
      await delay(20); // a steady flow, no flood
    }
  }
}
