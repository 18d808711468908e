import { createHash } from 'node:crypto';
import type { DeliveryCommand } from '../domain/delivery.js';
import type { DeliveryRequested, LegPlan, Route } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { badInput } from '../domain/rejection.js';
import type { Content, FieldProblem, Json, JsonObject } from '../domain/vocabulary.js';
import type { EventReader } from '../event-store/event-store.js';
import type { ChannelCatalog } from './channel-catalog.js';
import {
  type IntakeLimits,
  inputProblems,
  isObject,
  MAX_ROUTES,
  present,
  type RequestDeliveryInput,
  routesOf,
  type TargetInput,
} from './delivery-input.js';
import type { DestinationDirectory } from './destination-directory.js';
import type { Order, Refused } from './executor.js';
import { bulkItemKey, deliveryIdForKey, isUuid, newId } from './ids.js';

/** Who asks, as far as recording it goes. */
export interface Requester {
  readonly actor: string;
  readonly organizationId: string;
  readonly traceparent?: string;
}

export type DeliveryOrder = Order<DeliveryState, DeliveryCommand>;
export type Prepared = { readonly ok: true; readonly order: DeliveryOrder } | Refused;

export interface IntakeParts {
  readonly catalog: ChannelCatalog;
  readonly directory: DestinationDirectory;
  readonly reader: EventReader;
  /** The ids of an organization's default destinations. */
  readonly defaults: (organizationId: string) => Promise<readonly string[]>;
  readonly limits: IntakeLimits;
}

/** Turns a request into an order for a delivery, or says everything that is wrong with it. Stores nothing. */
export class Intake {
  readonly #parts: IntakeParts;

  constructor(parts: IntakeParts) {
    this.#parts = parts;
  }

  async prepare(
    input: RequestDeliveryInput,
    requester: Requester,
    now: Date,
    bulk?: { readonly key?: string; readonly index: number; readonly earlier: { has(id: string): boolean } },
  ): Promise<Prepared> {
    const problems = inputProblems(input, this.#parts.limits);
    const { organizationId } = requester;
    const key = input.idempotencyKey ?? (bulk?.key === undefined ? undefined : bulkItemKey(bulk.key, bulk.index));
    const id = key === undefined ? newId() : deliveryIdForKey(organizationId, key);
    const legs = problems.some(({ path }) => path === 'to') ? [] : await this.#plan(input, organizationId, problems);
    for (const [index, dependency] of (input.dependsOn ?? []).entries())
      if (dependency !== id && !bulk?.earlier.has(dependency) && !(await this.#exists(dependency, organizationId)))
        problems.push({ path: `dependsOn.${index}`, problem: 'there is no such delivery' });
    if (problems.length > 0) return badInput(problems);

    const request = requestOf(input, { organizationId, legs, now, key });
    return {
      ok: true,
      order: {
        id,
        command: { type: 'RequestDelivery', id, now: now.toISOString(), request },
        envelope: {
          organizationId,
          commandId: newId(),
          actor: requester.actor,
          ...(input.correlationId && { correlationId: input.correlationId }),
          ...(requester.traceparent !== undefined && { traceparent: requester.traceparent }),
        },
        known: { state: { tag: 'absent' }, revision: undefined },
      },
    };
  }

  async #plan(input: RequestDeliveryInput, organizationId: string, problems: FieldProblem[]): Promise<LegPlan[]> {
    const targets: readonly TargetInput[] =
      input.to ?? (await this.#parts.defaults(organizationId)).map((destinationId) => ({ destinationId }));
    if (targets.length === 0)
      problems.push({ path: 'to', problem: 'is missing, and there are no default destinations' });
    const legs: LegPlan[] = [];
    for (const [index, target] of targets.entries()) {
      const alternatives = routesOf(target, `to.${index}`);
      if (alternatives.length > MAX_ROUTES)
        problems.push({ path: `to.${index}`, problem: `must not have more than ${MAX_ROUTES} routes` });
      const routes: { route: Route; recipients: number }[] = [];
      for (const { target, path } of alternatives.slice(0, MAX_ROUTES)) {
        const route = await this.#route(target, path, organizationId, problems);
        if (route) routes.push(route);
      }
      legs.push({ leg: index + 1, routes: routes.map(({ route }) => route), recipients: routes[0]?.recipients ?? 1 });
    }
    return legs;
  }

  async #route(
    target: TargetInput,
    path: string,
    organizationId: string,
    problems: FieldProblem[],
  ): Promise<{ route: Route; recipients: number } | undefined> {
    const refuse = (field: string, problem: string) => {
      problems.push({ path: field === '' ? path : `${path}.${field}`, problem });
      return undefined;
    };
    const { destinationId, recipientId, channel, address, provider } = target;
    const named = [destinationId, recipientId, address].filter((value) => value !== null && value !== undefined);
    if (named.length !== 1) return refuse('', 'must have exactly one of destinationId, recipientId and address');
    if (recipientId) return refuse('recipientId', 'there is no such recipient');

    if (typeof destinationId === 'string') {
      if (channel) return refuse('channel', 'goes with an address; a destination has its own');
      if (provider) return refuse('provider', 'goes with an address; a destination has its own');
      const found = isUuid(destinationId) ? await this.#parts.directory.find(destinationId.toLowerCase()) : undefined;
      if (found?.definition.organizationId !== organizationId)
        return refuse('destinationId', 'there is no such destination');
      const { type, config } = found.definition;
      return {
        route: { channel: type, destinationId: found.id },
        recipients: this.#parts.catalog.recipients(type, config),
      };
    }
    if (!channel) return refuse('channel', 'is required with an address');
    const addressProblem = this.#parts.catalog.addressProblem(channel, address as string);
    if (addressProblem) return refuse('address', addressProblem);
    const providerProblem = this.#parts.catalog.providerProblem(channel, provider ?? undefined);
    if (providerProblem) return refuse('provider', providerProblem);
    return {
      route: { channel, address: address as string, ...(provider && { provider }) },
      recipients: 1,
    };
  }

  async #exists(id: string, organizationId: string): Promise<boolean> {
    if (!isUuid(id)) return false;
    const first = (await this.#parts.reader.readStream(`delivery-${id.toLowerCase()}`, { limit: 1 }))[0];
    return first?.metadata.organizationId === organizationId;
  }
}

function requestOf(
  input: RequestDeliveryInput,
  { organizationId, legs, now, key }: { organizationId: string; legs: LegPlan[]; now: Date; key: string | undefined },
): DeliveryRequested['data'] {
  const { approval, scheduledAt, expiresAt, dependsOn, slaSeconds, correlationId, metadata, personalization } = input;
  const deadline = approval?.timeoutSeconds ? new Date(now.getTime() + approval.timeoutSeconds * 1_000) : undefined;
  return {
    organizationId,
    priority: input.priority ?? 'NORMAL',
    legs,
    content: present(input.content ?? {}) as Content,
    tags: input.tags ?? [],
    ...(isObject(personalization) && { personalization }),
    ...(metadata !== null && metadata !== undefined && { metadata }),
    ...(correlationId && { correlationId }),
    ...(key !== undefined && { idempotencyKey: key, fingerprint: fingerprint(input) }),
    ...(scheduledAt && { scheduledAt: scheduledAt.toISOString() }),
    ...(expiresAt && { expiresAt: expiresAt.toISOString() }),
    ...(dependsOn && dependsOn.length > 0 && { dependsOn: [...new Set(dependsOn.map((id) => id.toLowerCase()))] }),
    ...(slaSeconds && { slaSeconds }),
    ...(approval && {
      approval: {
        approvers: approval.approvers,
        minimum: approval.minimum ?? 1,
        ...(deadline && { deadline: deadline.toISOString() }),
      },
    }),
  };
}

/** The same for every way of writing the same request: keys sorted, absent and null alike. */
const fingerprint = (input: RequestDeliveryInput): string =>
  createHash('sha256')
    .update(JSON.stringify(canonical(input as unknown as Json)))
    .digest('base64url');

function canonical(value: Json | Date): Json {
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(canonical);
  if (!isObject(value)) return value as Json;
  const entries = Object.entries(value as JsonObject)
    .filter(([, inner]) => inner !== null && inner !== undefined)
    .sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, canonical(inner)]));
}
