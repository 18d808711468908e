import type { DeliveryCommand } from '../domain/delivery.js';
import { decide, delivery } from '../domain/delivery.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { badInput } from '../domain/rejection.js';
import type { FieldProblem } from '../domain/vocabulary.js';
import type { RequestDeliveryInput } from './delivery-input.js';
import type { CommandExecutor, Executed, ExecuteResult, Refused } from './executor.js';
import { newId } from './ids.js';
import type { DeliveryOrder, Intake, Requester } from './intake.js';

/** One request and on whose behalf it comes. */
export interface DeliveryRequest {
  readonly input: RequestDeliveryInput;
  readonly requester: Requester;
}

/** A delivery as a command left it. */
export interface Accepted extends Executed<DeliveryState, DeliveryEvent> {
  readonly id: string;
  /** The request was made before, with the same key and body; this is its delivery. */
  readonly replayed: boolean;
}

/** Sends orders on their way; the CommandBus in the running product. */
export type SendOrders = (orders: readonly DeliveryOrder[]) => Promise<ExecuteResult<DeliveryState, DeliveryEvent>[]>;

/** What people and service teams ask of deliveries. */
export class Deliveries {
  readonly #intake: Intake;
  readonly #executor: CommandExecutor;
  readonly #send: SendOrders;

  constructor(intake: Intake, executor: CommandExecutor, send: SendOrders) {
    this.#intake = intake;
    this.#executor = executor;
    this.#send = send;
  }

  async request({ input, requester }: DeliveryRequest): Promise<Accepted | Refused> {
    const prepared = await this.#intake.prepare(input, requester, new Date());
    if (!prepared.ok) return prepared;
    return accepted(prepared.order.id, (await this.#send([prepared.order]))[0]);
  }

  /** All are judged before any is stored; answers are in order. */
  async requestMany(
    requests: readonly DeliveryRequest[],
    key: string | undefined,
  ): Promise<(Accepted | Refused)[] | Refused> {
    const now = new Date();
    const earlier = new Map<string, DeliveryOrder>();
    const orders: DeliveryOrder[] = [];
    const problems: FieldProblem[] = [];
    let conflict: Refused | undefined;
    for (const [index, { input, requester }] of requests.entries()) {
      const at = { index, earlier, ...(key !== undefined && { key }) };
      const prepared = await this.#intake.prepare(input, requester, now, at);
      const judged = prepared.ok ? await this.#judge(prepared.order, earlier) : prepared;
      if (judged.ok) {
        orders.push(judged.order);
        earlier.set(judged.order.id, judged.order);
      } else {
        if (judged.rejection.code !== 'BAD_USER_INPUT') conflict ??= judged;
        for (const { path, problem } of judged.rejection.fields ?? [])
          problems.push({ path: path === '' ? `inputs.${index}` : `inputs.${index}.${path}`, problem });
      }
    }
    if (problems.length > 0) {
      const refused = badInput(problems);
      return conflict ? { ...refused, rejection: { ...refused.rejection, code: conflict.rejection.code } } : refused;
    }
    const results = await this.#send(orders);
    return results.map((result, index) => accepted((orders[index] as DeliveryOrder).id, result));
  }

  /** An order for a delivery that exists; refused as unknown unless the requester's organizations have it. */
  async change(
    id: string,
    command: DeliveryCommand,
    requester: Omit<Requester, 'organizationId'>,
    mayAccess: (organizationId: string) => boolean,
  ): Promise<Accepted | Refused> {
    const known = await this.#executor.load(delivery, id);
    if (known.state.tag === 'absent' || !mayAccess(known.state.request.organizationId))
      return { ok: false, rejection: { code: 'NOT_FOUND', message: 'there is no such delivery' } };
    const { organizationId, correlationId } = known.state.request;
    const envelope = {
      organizationId,
      commandId: newId(),
      actor: requester.actor,
      ...(correlationId !== undefined && { correlationId }),
      ...(requester.traceparent !== undefined && { traceparent: requester.traceparent }),
    };
    return accepted(id, (await this.#send([{ id, command, envelope, known }]))[0]);
  }

  /** Decides ahead, on what is stored now, so that one bad item stops a bulk before any item is stored. */
  async #judge(
    order: DeliveryOrder,
    earlier: ReadonlyMap<string, DeliveryOrder>,
  ): Promise<{ readonly ok: true; readonly order: DeliveryOrder } | Refused> {
    const { command } = order;
    if (command.type !== 'RequestDelivery') throw new Error(`${command.type} is not a request`);
    const twin = earlier.get(order.id)?.command;
    if (twin?.type === 'RequestDelivery') {
      if (twin.request.fingerprint === command.request.fingerprint) return { ok: true, order };
      return badInput([{ path: 'idempotencyKey', problem: 'stands on another request of this call too' }]);
    }
    const isKeyed = command.request.idempotencyKey !== undefined;
    const known = isKeyed
      ? await this.#executor.load(delivery, order.id)
      : { state: delivery.initial, revision: undefined };
    const decision = decide(command, known.state);
    return decision.ok ? { ok: true, order: { ...order, known } } : decision;
  }
}

function accepted(id: string, result: ExecuteResult<DeliveryState, DeliveryEvent> | undefined): Accepted | Refused {
  if (!result) throw new Error(`no answer to the order for delivery ${id}`);
  return result.ok ? { ...result, id, replayed: result.events.length === 0 } : result;
}
