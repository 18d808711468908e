import { decide, delivery } from '../domain/delivery.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { badInput, reject } from '../domain/rejection.js';
import type { RequestDeliveryInput } from './delivery-input.js';
import type { CommandExecutor, Executed, ExecuteResult, Known, Refused } from './executor.js';
import { newId } from './ids.js';
import type { DeliveryOrder, Intake, Prepared, Requester } from './intake.js';

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

/** What requests need to know of the engine that will carry them out. */
export interface EngineView {
  /** 0, or how long it may take until there is room in memory for what is under way, and for what is this organization's. */
  readonly secondsUntilRoom: (organizationId: string) => number;
  /** By the clock that the engine's timers follow: deadlines that are counted from now would else be off by a wrong one. */
  readonly now: () => Date;
}

const tooBusy = (retryAfterSeconds: number): Refused => {
  const message = `more deliveries are under way than fit; send this again in ${retryAfterSeconds} s`;
  return { ok: false, rejection: { code: 'RATE_LIMITED', message, retryAfterSeconds } };
};

const ATTEMPT_ID = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(\d{1,9})-(\d{1,9})$/i;

/** Why a delivery is cancelled that waits for nobody any more. */
export const ERASED = 'the data of whoever it is for was erased';

/** What people and service teams ask of deliveries. */
export class Deliveries {
  readonly #intake: Intake;
  readonly #executor: CommandExecutor;
  readonly #send: SendOrders;
  readonly #engine: EngineView;

  constructor(intake: Intake, executor: CommandExecutor, send: SendOrders, engine: EngineView) {
    this.#intake = intake;
    this.#executor = executor;
    this.#send = send;
    this.#engine = engine;
  }

  async request(request: DeliveryRequest): Promise<Accepted | Refused> {
    const waitSeconds = this.#engine.secondsUntilRoom(request.requester.organizationId);
    return waitSeconds > 0 ? tooBusy(waitSeconds) : await this.announce(request);
  }

  /** For what Waybill sends by itself: nobody is there to send it again when there is room. */
  async announce({ input, requester }: DeliveryRequest): Promise<Accepted | Refused> {
    const prepared = await this.#intake.prepare(input, requester, this.#engine.now());
    if (!prepared.ok) return prepared;
    if ('replayed' in prepared) return replayed(prepared.id, prepared.replayed);
    return accepted(prepared.order.id, (await this.#send([prepared.order]))[0]);
  }

  /** All are judged before any is stored; answers are in order. */
  async requestMany(
    requests: readonly DeliveryRequest[],
    key: string | undefined,
  ): Promise<(Accepted | Refused)[] | Refused> {
    const organizations = new Set(requests.map(({ requester }) => requester.organizationId));
    const waitSeconds = Math.max(0, ...[...organizations].map((id) => this.#engine.secondsUntilRoom(id)));
    if (waitSeconds > 0) return tooBusy(waitSeconds);
    const now = this.#engine.now();
    const earlier = new Map<string, DeliveryOrder>();
    const answers: (Accepted | Refused | undefined)[] = [];
    const orders: { readonly index: number; readonly order: DeliveryOrder }[] = [];
    for (const [index, { input, requester }] of requests.entries()) {
      const at = { index, earlier, ...(key !== undefined && { key }) };
      const prepared = judged(await this.#intake.prepare(input, requester, now, at), earlier);
      if (prepared.ok && 'order' in prepared) {
        orders.push({ index, order: prepared.order });
        earlier.set(prepared.order.id, prepared.order);
      }
      if (!prepared.ok) answers[index] = prepared;
      else if ('replayed' in prepared) answers[index] = replayed(prepared.id, prepared.replayed);
    }
    const refused = refusalOfAll(answers);
    if (refused) return refused;
    const results = await this.#send(orders.map(({ order }) => order));
    for (const [at, { index, order }] of orders.entries()) answers[index] = accepted(order.id, results[at]);
    return answers as (Accepted | Refused)[];
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

  /** For a person who is not there any more. One that has ended meanwhile stays as it ended. */
  async cancelErased(id: string, requester: Requester): Promise<void> {
    const command = { type: 'Cancel', now: new Date().toISOString(), by: requester.actor, reason: ERASED } as const;
    await this.change(id, command, requester, (organizationId) => organizationId === requester.organizationId);
  }

  /** Whose it is, undefined when there is no such delivery. */
  async organizationOf(id: string): Promise<string | undefined> {
    const { state } = await this.#executor.load(delivery, id);
    return state.tag === 'absent' ? undefined : state.request.organizationId;
  }

  /**
   * What a person has found out about an attempt that is held in doubt. The same answer again changes nothing.
   *
   * @param attemptId `<delivery id>-<leg>-<number>`
   */
  async resolveAttempt(
    attemptId: string,
    { outcome, note }: { readonly outcome: 'sent' | 'not-sent'; readonly note?: string },
    requester: Omit<Requester, 'organizationId'>,
    mayAccess: (organizationId: string) => boolean,
  ): Promise<Accepted | Refused> {
    const [, id, leg, attempt] = ATTEMPT_ID.exec(attemptId) ?? [];
    if (id === undefined) return reject('NOT_FOUND', 'there is no such attempt');
    const command = {
      type: 'ResolveAttempt',
      now: new Date().toISOString(),
      leg: Number(leg),
      attempt: Number(attempt),
      outcome,
      by: requester.actor,
      ...(note !== undefined && { note }),
    } as const;
    return await this.change(id.toLowerCase(), command, requester, mayAccess);
  }
}

/** Decides ahead, on what is stored now, so that one bad item stops a bulk before any item is stored. */
function judged(prepared: Prepared, earlier: ReadonlyMap<string, DeliveryOrder>): Prepared {
  if (!prepared.ok || !('order' in prepared)) return prepared;
  const { order } = prepared;
  const { command, known = { state: delivery.initial } } = order;
  if (command.type !== 'RequestDelivery') throw new Error(`${command.type} is not a request`);
  const twin = earlier.get(order.id)?.command;
  if (twin?.type === 'RequestDelivery' && twin.request.fingerprint !== command.request.fingerprint)
    return badInput([{ path: 'idempotencyKey', problem: 'stands on another request of this call too' }]);
  const decision = decide(command, known.state);
  return decision.ok ? prepared : decision;
}

/** One answer for a bulk of which something is wrong, with the problems of all items. */
function refusalOfAll(answers: readonly (Accepted | Refused | undefined)[]): Refused | undefined {
  const refusals = answers.flatMap((answer, index) => (answer && !answer.ok ? [{ index, ...answer.rejection }] : []));
  const first = refusals.find(({ code }) => code !== 'BAD_USER_INPUT') ?? refusals[0];
  if (!first) return undefined;
  const fields = refusals.flatMap(({ index, message, fields = [{ path: '', problem: message }] }) =>
    fields.map(({ path, problem }) => ({ path: path === '' ? `inputs.${index}` : `inputs.${index}.${path}`, problem })),
  );
  const message = fields.map(({ path, problem }) => `${path}: ${problem}`).join('; ');
  return { ok: false, rejection: { code: first.code, message, fields } };
}

const replayed = (id: string, known: Known<DeliveryState>): Accepted => ({
  ...known,
  ok: true,
  id,
  events: [],
  position: undefined,
  replayed: true,
});

function accepted(id: string, result: ExecuteResult<DeliveryState, DeliveryEvent> | undefined): Accepted | Refused {
  if (!result) throw new Error(`no answer to the order for delivery ${id}`);
  return result.ok ? { id, replayed: result.events.length === 0, ...result } : result;
}
