import type { Route } from '../../src/domain/delivery-events.js';
import { destination } from '../../src/domain/destination.js';
import { defaultRetryPolicy, type RetryPolicy, retryPolicy } from '../../src/domain/retry-policy.js';
import type { EventCodec } from '../../src/event-store/codec.js';
import { nameOf } from './clients.js';
import { ORGANIZATION } from './instance.js';
import type { Fate, Plan, PlannedRequest } from './plan.js';
import { configTo } from './providers.js';
import { Random } from './random.js';
import { Host } from './scheduler.js';
import type { SimulatedLog } from './simulated-log.js';

const DESTINATION = /^destination-(\d+)$/;

/** Where a plan's deliveries go: its destinations, and what becomes of calls to them and to bare addresses. */
export class PlannedRoutes {
  readonly requests = new Map<number, PlannedRequest>();
  readonly #plan: Plan;
  readonly #ids: readonly string[];

  constructor(plan: Plan) {
    this.#plan = plan;
    for (const step of plan.steps) if (step.do === 'request') this.requests.set(step.delivery, step);
    const random = new Random(plan.seed, 'destinations');
    this.#ids = plan.destinations.map(() => random.uuid());
  }

  destinationId(index: number): string {
    return this.#ids[index] as string;
  }

  /** Records the destinations. */
  prepare(log: SimulatedLog, codec: EventCodec): void {
    const host = new Host('setup', 0);
    for (const [index, { channel, retry }] of this.#plan.destinations.entries()) {
      const definition = {
        ...{ organizationId: ORGANIZATION, label: `destination ${index}`, type: channel, isDefault: false },
        ...{ config: configTo(channel, `destination-${index}`), secrets: {}, retry: retryPolicy(retry) },
      };
      const now = new Date().toISOString();
      const decision = destination.decide({ type: 'CreateDestination', now, definition }, { tag: 'absent' });
      if (!decision.ok) throw new Error(decision.rejection.message);
      const id = this.destinationId(index);
      const envelope = { organizationId: ORGANIZATION, commandId: id, actor: 'setup' };
      const events = decision.events.map((event) => codec.encode(event, id, envelope));
      log.append({ streamId: `destination-${id}`, expected: 'no-stream', events }, host);
    }
  }

  policyOf({ destinationId = '' }: Route): RetryPolicy {
    const planned = this.#plan.destinations[this.#ids.indexOf(destinationId)];
    return planned ? retryPolicy(planned.retry) : defaultRetryPolicy;
  }

  /** Whether a call to this address is one of this route. */
  leadsTo({ destinationId, address }: Route, called: string): boolean {
    return called === (destinationId === undefined ? address : `destination-${this.#ids.indexOf(destinationId)}`);
  }

  /** What becomes of the call to an address for a delivery; `nth` counts those from 0. */
  fateOf(delivery: string, address: string, nth: number): Fate {
    const index = DESTINATION.exec(address)?.[1];
    for (const { delivery: number, legs } of this.requests.values()) {
      if (nameOf(number) !== delivery) continue;
      for (const [leg, routes] of legs.entries())
        for (const [at, { destination, fates }] of routes.entries()) {
          const isIt = index === undefined ? address === `${delivery}/${leg + 1}/${at}` : destination === Number(index);
          if (isIt && fates[nth]) return fates[nth];
        }
    }
    return { does: 'accept', afterMs: 20 };
  }
}
