import type { Accepted } from '../../src/commands/deliveries.js';
import type { RequestDeliveryInput, TargetInput } from '../../src/commands/delivery-input.js';
import type { Refused } from '../../src/commands/executor.js';
import type { DeliveryCommand } from '../../src/domain/delivery-commands.js';
import type { RecordedEvent } from '../../src/event-store/event-store.js';
import type { Instance } from './instance.js';
import { ORGANIZATION } from './instance.js';
import { type Action, APPROVERS, type Change, type PlannedRequest, type PlannedRoute } from './plan.js';
import type { Scheduler } from './scheduler.js';
import type { SimulatedLog } from './simulated-log.js';
import { EPOCH_MS } from './virtual-globals.js';
import type { Witness } from './witness.js';

/** A client that hears nothing for so long tries again, with the same key. */
const PATIENCE_MS = 4_000;
const MOST_TRIES = 8;
/** What the times of a request and the log's may differ by: clocks are not quite right. */
const CLOCK_TOLERANCE_MS = 30_000;

export interface ClientParts {
  readonly scheduler: Scheduler;
  readonly seed: number;
  readonly log: SimulatedLog;
  /** An instance that is running, as a load balancer finds one; `turn` spreads the calls. */
  readonly instance: (turn: number) => Instance | undefined;
  readonly destinationId: (index: number) => string;
  /** `<leg>-<number>` of an attempt of the delivery that is held in doubt, or of any. */
  readonly doubtOf: (id: string) => string;
  readonly witness: Witness;
}

type Body = 'same' | 'other';

/** The service teams and people who ask for deliveries and decide about them, and remember what they were told. */
export class Clients {
  readonly #parts: ClientParts;
  /** Deliveries that were acknowledged, with the body they were acknowledged for. */
  readonly #known = new Map<number, { readonly id: string; readonly body: Body; readonly sinceMs: number }>();
  /** Requests as they were first made: who repeats one repeats it as it was. */
  readonly #inputs = new Map<string, RequestDeliveryInput>();
  /** delivery → when it was first asked for */
  readonly #askedAtMs = new Map<number, number>();
  #turn = 0;

  constructor(parts: ClientParts) {
    this.#parts = parts;
  }

  request(planned: PlannedRequest, body: Body = 'same'): void {
    const place = `${planned.delivery} ${body}`;
    const input = this.#inputs.get(place) ?? this.#inputOf(planned, body);
    this.#inputs.set(place, input);
    if (!this.#askedAtMs.has(planned.delivery)) this.#askedAtMs.set(planned.delivery, this.#parts.scheduler.nowMs);
    this.#try(planned, input, body, 1);
  }

  change(action: Extract<Action, { do: Change }>): void {
    const { scheduler, log, witness } = this.#parts;
    const known = this.#known.get(action.delivery);
    const instance = this.#parts.instance(this.#turn++);
    if (!known || !instance) return;
    const name = nameOf(action.delivery);
    const by = APPROVERS[action.by] as string;
    scheduler.after(0.5, instance.host, () => {
      this.#sent(instance, known.id, action.do, by)
        .then((answer) => {
          witness.tell(`client   ${action.do} ${name} by ${by} at ${instance.host.name}: ${wordsOf(answer)}`);
          if (!answer.ok || answer.events.length === 0) return;
          const types = log.stream(`delivery-${known.id}`).map(({ type }) => type);
          if (types[answer.revision as number] !== answer.events.at(-1)?.type)
            witness.fail('acknowledged is recorded', `${name}: ${action.do} was acknowledged and is not in the log`);
        })
        .catch((error: Error) => witness.tell(`client   ${action.do} ${name} by ${by}: ${error.message}`));
    });
  }

  changeDestination({ do: what, destination }: Extract<Action, { do: 'enable' | 'disable' }>): void {
    const { scheduler, witness } = this.#parts;
    const instance = this.#parts.instance(destination);
    if (!instance) return;
    witness.tell(`client   ${what} destination ${destination} at ${instance.host.name}`);
    const finding =
      what === 'enable'
        ? ({ type: 'EnableDestination' } as const)
        : ({ type: 'DisableDestination', reason: 'by hand' } as const);
    scheduler.after(0.5, instance.host, () => {
      instance.destinations.note(this.#parts.destinationId(destination), finding).catch(() => undefined);
    });
  }

  /** The id of a delivery that was acknowledged. */
  idOf(delivery: number): string | undefined {
    return this.#known.get(delivery)?.id;
  }

  #sent({ deliveries }: Instance, id: string, what: Change, by: string): Promise<Accepted | Refused> {
    const requester = { actor: by };
    if (what !== 'say it was sent' && what !== 'say it was not sent')
      return deliveries.change(id, commandOf(what, by), requester, () => true);
    const outcome = what === 'say it was sent' ? 'sent' : 'not-sent';
    return deliveries.resolveAttempt(`${id}-${this.#parts.doubtOf(id)}`, { outcome }, requester, () => true);
  }

  /** Once, or with a key until there is an answer. */
  #try(planned: PlannedRequest, input: RequestDeliveryInput, body: Body, tries: number): void {
    const { scheduler, witness } = this.#parts;
    const name = nameOf(planned.delivery);
    let isOver = false;
    const again = (why: string) => {
      if (isOver) return;
      isOver = true;
      witness.tell(`client   request ${name}: ${why}`);
      if (planned.hasKey && tries < MOST_TRIES)
        scheduler.after(200 * tries, undefined, () => this.#try(planned, input, body, tries + 1));
    };
    const instance = this.#parts.instance(this.#turn++);
    if (!instance) {
      again('nobody is there');
      return;
    }
    const askedAtMs = scheduler.nowMs;
    scheduler.after(PATIENCE_MS, undefined, () => again('no answer'));
    scheduler.after(0.5, instance.host, () => {
      const requester = { actor: 'client', organizationId: ORGANIZATION };
      instance.deliveries
        .request({ input, requester })
        .then((answer) => {
          if (!isOver) witness.tell(`client   request ${name} at ${instance.host.name}: ${wordsOf(answer)}`);
          // Also what comes too late for the client must be true.
          if (answer.ok) this.#acknowledged(planned, answer.id, body);
          else this.#refused(planned, answer.rejection.code, { body, askedAtMs });
          isOver = true;
        })
        .catch((error: Error) => again(error.message));
    });
  }

  #acknowledged(planned: PlannedRequest, id: string, body: Body): void {
    const { delivery, hasKey } = planned;
    const name = nameOf(delivery);
    const known = this.#known.get(delivery);
    const [first] = this.#parts.log.stream(`delivery-${id}`);
    if (first?.type !== 'DeliveryRequested')
      this.#parts.witness.fail('acknowledged is recorded', `${name} was acknowledged and is not in the log`);
    this.#checkDeadline(planned, first);
    if (hasKey && known && (known.id !== id || known.body !== body))
      this.#parts.witness.fail('acknowledged is recorded', `${name}: one key stands for two requests`);
    if (!known) this.#known.set(delivery, { id, body, sinceMs: this.#parts.scheduler.nowMs });
  }

  /**
   * People have as long to approve as the client has said, whatever the instance that it asked takes for the time. That
   * begins when it asks, at the earliest, and when it is stored, at the latest: an instance may be stopped in between.
   */
  #checkDeadline({ delivery, approval }: PlannedRequest, first: RecordedEvent | undefined): void {
    const { deadline } = (first?.data.approval ?? {}) as { readonly deadline?: string };
    if (approval?.timeoutSeconds === undefined || deadline === undefined || !first) return;
    const beginsMs = Date.parse(deadline) - approval.timeoutSeconds * 1_000;
    const askedAtMs = EPOCH_MS + (this.#askedAtMs.get(delivery) ?? 0);
    const storedAtMs = Date.parse(first.created);
    if (beginsMs < askedAtMs - CLOCK_TOLERANCE_MS || beginsMs > storedAtMs + CLOCK_TOLERANCE_MS) {
      const given = Math.round((Date.parse(deadline) - storedAtMs) / 1_000);
      const told = `has ${given} s to be approved instead of ${approval.timeoutSeconds} s`;
      this.#parts.witness.fail('times are kept', `${nameOf(delivery)} ${told}`);
    }
  }

  #refused({ delivery }: PlannedRequest, code: string, { body, askedAtMs }: { body: Body; askedAtMs: number }): void {
    const known = this.#known.get(delivery);
    if (known?.body === body && known.sinceMs < askedAtMs && code !== 'RATE_LIMITED')
      this.#parts.witness.fail(
        'acknowledged is recorded',
        `${nameOf(delivery)} was accepted, and is refused now: ${code}`,
      );
  }

  #inputOf(planned: PlannedRequest, body: Body): RequestDeliveryInput {
    const { delivery, hasKey, priority, legs, scheduledInMs, expiresInMs, approval } = planned;
    const nowMs = EPOCH_MS + this.#parts.scheduler.nowMs;
    const dependsOn = planned.dependsOn.flatMap((number) => this.#known.get(number)?.id ?? []);
    return {
      ...(hasKey && { idempotencyKey: `${this.#parts.seed}/${delivery}` }),
      correlationId: nameOf(delivery),
      to: legs.map((routes, leg) => this.#targetOf(routes, addressOf(delivery, leg))),
      content: { text: body },
      priority,
      ...(scheduledInMs !== undefined && { scheduledAt: new Date(nowMs + scheduledInMs) }),
      ...(expiresInMs !== undefined && { expiresAt: new Date(nowMs + expiresInMs) }),
      ...(approval && { approval: { approvers: APPROVERS.slice(0, 2), ...approval } }),
      ...(dependsOn.length > 0 && { dependsOn }),
    };
  }

  #targetOf(routes: readonly PlannedRoute[], address: (route: number) => string): TargetInput {
    const targets = routes.map(
      ({ channel, destination }, route): TargetInput =>
        destination === undefined
          ? { channel, address: address(route) }
          : { destinationId: this.#parts.destinationId(destination) },
    );
    const [first, ...fallback] = targets;
    return { ...first, ...(fallback.length > 0 && { fallback }) };
  }
}

export const nameOf = (delivery: number): string => `D${delivery}`;

/** Of a bare address: `D3/1/0` is the first route of the first leg of D3. */
export const addressOf = (delivery: number, leg: number) => (route: number) =>
  `${nameOf(delivery)}/${leg + 1}/${route}`;

function commandOf(what: Exclude<Change, 'say it was sent' | 'say it was not sent'>, by: string): DeliveryCommand {
  const now = new Date().toISOString();
  switch (what) {
    case 'approve':
      return { type: 'Approve', now, approver: by };
    case 'reject':
      return { type: 'Reject', now, approver: by, reason: 'no' };
    case 'cancel':
      return { type: 'Cancel', now, by };
    case 'retry':
      return { type: 'Retry', now, by };
  }
}

const wordsOf = (answer: { readonly ok: boolean; readonly rejection?: { readonly code: string } }): string =>
  answer.ok ? 'yes' : `${answer.rejection?.code}`;
