import { createHash } from 'node:crypto';
import { delivery, repeat } from '../domain/delivery.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryRequested, LegPlan, Route } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { instantOf } from '../domain/instant.js';
import { badInput } from '../domain/rejection.js';
import { classOf, keptSubject, type RetentionState } from '../domain/retention.js';
import {
  type Attachment,
  type Channel,
  type Content,
  type FieldProblem,
  isUuid,
  type Json,
} from '../domain/vocabulary.js';
import { subjectOfDestination, subjectOfOrganization } from '../event-store/codec.js';
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
import type { Known, Order, Refused } from './executor.js';
import { bulkItemKey, deliveryIdForKey, newDeliveryId, newId } from './ids.js';
import type { Suppressions } from './suppressions.js';

/** Who asks, as far as recording it goes. */
export interface Requester {
  readonly actor: string;
  readonly organizationId: string;
  readonly traceparent?: string;
  /** May say who decides there. Default: nobody may. */
  readonly isAdministrator?: (organizationId: string) => boolean;
}

export type DeliveryOrder = Order<DeliveryState, DeliveryCommand>;
/** An order to store, or the delivery that the same request made before. */
export type Prepared =
  | { readonly ok: true; readonly order: DeliveryOrder }
  | { readonly ok: true; readonly id: string; readonly replayed: Known<DeliveryState> }
  | Refused;

export interface IntakeParts {
  readonly catalog: ChannelCatalog;
  readonly directory: DestinationDirectory;
  readonly reader: EventReader;
  readonly load: (id: string) => Promise<Known<DeliveryState>>;
  /** The ids of an organization's default destinations. */
  readonly defaults: (organizationId: string) => Promise<readonly string[]>;
  /** How long an organization keeps what. */
  readonly retention: (organizationId: string) => Promise<RetentionState>;
  readonly limits: IntakeLimits;
  /** Which addresses get nothing any more. Default: none. */
  readonly suppressed?: Suppressions['among'];
  readonly subjects: SubjectNames;
}

/** Names of data subjects: the same address always gets the same one, and nobody can tell the address from it. */
export interface SubjectNames {
  /** Undefined for an address that is no person's, such as a URL. */
  person(organizationId: string, channel: Channel, address: string): string | undefined;
  /** Of several persons together. */
  group(persons: readonly string[]): string;
  /** A digest that without the installation's secret nobody can compare guesses with. */
  digest(text: string): string;
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
    const content = contentOf(input);
    if (content.email || content.attachments) problems.push(...this.#parts.catalog.contentProblems(content));
    const { organizationId } = requester;
    const key = input.idempotencyKey ?? (bulk?.key === undefined ? undefined : bulkItemKey(bulk.key, bulk.index));
    const id = key === undefined ? newDeliveryId(now) : deliveryIdForKey(organizationId, key);
    const identity =
      key === undefined || problems.length > 0
        ? {}
        : { idempotencyKey: key, fingerprint: this.#parts.subjects.digest(canonicalText(input)) };
    let known: Known<DeliveryState> = { state: delivery.initial, revision: undefined };
    if (identity.fingerprint !== undefined) {
      known = await this.#parts.load(id);
      // What was accepted once stays accepted, also when its destination is gone or its time is past by now.
      if (known.state.tag !== 'absent') {
        const repeated = repeat(known.state, comparable(known.state.request.fingerprint, identity.fingerprint, input));
        return repeated.ok ? { ok: true, id, replayed: known } : repeated;
      }
    }
    const legs = problems.some(({ path }) => path === 'to') ? [] : await this.#plan(input, organizationId, problems);
    const dependsOn = (input.dependsOn ?? []).map((dependency) => dependency.toLowerCase());
    for (const [index, dependency] of dependsOn.entries())
      if (dependency !== id && !bulk?.earlier.has(dependency) && !(await this.#exists(dependency, organizationId)))
        problems.push({ path: `dependsOn.${index}`, problem: 'there is no such delivery' });
    // One of a bulk does not keep the others from being sent: it fails by itself, before it would be sent.
    if (!bulk) problems.push(...(await this.#suppressedProblems(legs, organizationId)));
    const retention = classOf(await this.#parts.retention(organizationId), {
      named: input.retention ?? undefined,
      tags: input.tags ?? [],
    });
    if (retention === undefined) problems.push({ path: 'retention', problem: 'there is no such class' });
    if (retention === undefined || problems.length > 0) return badInput(problems);

    const subject = keptSubject(this.#subjectOf(legs, organizationId), retention, now);
    const request = requestOf(input, { organizationId, subject, legs, now, dependsOn, identity });
    return {
      ok: true,
      order: {
        id,
        command: { type: 'RequestDelivery', id, now: instantOf(now.getTime()), request },
        envelope: {
          organizationId,
          commandId: newId(),
          actor: requester.actor,
          ...(input.correlationId && { correlationId: input.correlationId }),
          ...(requester.traceparent !== undefined && { traceparent: requester.traceparent }),
        },
        known,
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
    if (typeof recipientId === 'string') return refuse('recipientId', 'there is no such recipient');

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
    const subject = this.#parts.subjects.person(organizationId, channel, address as string);
    return {
      route: { channel, address: address as string, ...(subject && { subject }), ...(provider && { provider }) },
      recipients: 1,
    };
  }

  /** Whose the whole delivery is: the person's or the persons' it is addressed to, else its only destination's. */
  #subjectOf(legs: readonly LegPlan[], organizationId: string): string {
    const persons = new Set<string>();
    const places = new Set<string | undefined>();
    for (const { routes } of legs)
      for (const { subject, destinationId } of routes) {
        if (subject !== undefined) persons.add(subject);
        places.add(destinationId);
      }
    const [place] = places;
    if (persons.size > 1) return this.#parts.subjects.group([...persons].sort());
    for (const person of persons) return person;
    return places.size === 1 && place !== undefined
      ? subjectOfDestination(place)
      : subjectOfOrganization(organizationId);
  }

  /** Legs without any route that may be used. */
  async #suppressedProblems(legs: readonly LegPlan[], organizationId: string): Promise<FieldProblem[]> {
    const { suppressed } = this.#parts;
    if (!suppressed) return [];
    const problems: FieldProblem[] = [];
    for (const [index, { routes }] of legs.entries()) {
      let reason: string | undefined;
      for (const { channel, address } of routes) {
        reason = address && (await suppressed(organizationId, channel, [address])).get(address);
        if (!reason) break;
      }
      if (reason) problems.push({ path: `to.${index}.address`, problem: `is on the suppression list (${reason})` });
    }
    return problems;
  }

  async #exists(id: string, organizationId: string): Promise<boolean> {
    if (!isUuid(id)) return false;
    const [first] = await this.#parts.reader.readStream(`delivery-${id}`, { limit: 1 });
    return first?.metadata.organizationId === organizationId;
  }
}

interface Resolved {
  readonly organizationId: string;
  readonly subject: string;
  readonly legs: LegPlan[];
  readonly now: Date;
  readonly dependsOn: readonly string[];
  readonly identity: { readonly idempotencyKey?: string; readonly fingerprint?: string };
}

function requestOf(
  input: RequestDeliveryInput,
  { organizationId, subject, legs, now, dependsOn, identity }: Resolved,
): DeliveryRequested['data'] {
  const { approval, scheduledAt, expiresAt, slaSeconds, correlationId, metadata, personalization } = input;
  const deadline = approval?.timeoutSeconds ? new Date(now.getTime() + approval.timeoutSeconds * 1_000) : undefined;
  return {
    organizationId,
    subject,
    priority: input.priority ?? 'NORMAL',
    legs,
    content: contentOf(input),
    tags: input.tags ?? [],
    ...(isObject(personalization) && { personalization }),
    ...(metadata !== null && metadata !== undefined && { metadata }),
    ...(correlationId && { correlationId }),
    ...identity,
    ...(scheduledAt && { scheduledAt: scheduledAt.toISOString() }),
    ...(expiresAt && { expiresAt: expiresAt.toISOString() }),
    ...(dependsOn.length > 0 && { dependsOn: [...new Set(dependsOn)] }),
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

function contentOf({ content }: RequestDeliveryInput): Content {
  const given = present(content ?? {}) as Content;
  const { email, attachments } = given;
  if (!email && !attachments) return given;
  return {
    ...given,
    ...(email && { email: present(email) }),
    ...(attachments && { attachments: attachments.map((file) => present(file) as Attachment) }),
  };
}

/** The same for every way of writing the same request: keys sorted, what is left empty like what is left out. */
const canonicalText = (input: RequestDeliveryInput): string => JSON.stringify(canonical(input as unknown as Json));

const OLD_FINGERPRINT_LENGTH = 43;

/** Before there was a secret, fingerprints were plain SHA-256, twice as long; a repeated request is told all the same. */
const comparable = (stored: string | undefined, fingerprint: string, input: RequestDeliveryInput): string =>
  stored?.length === OLD_FINGERPRINT_LENGTH
    ? createHash('sha256').update(canonicalText(input)).digest('base64url')
    : fingerprint;

/** Fields that hold what the client means as it stands: a null in there says something. */
const VERBATIM = new Set(['data', 'metadata', 'personalization']);

function canonical(value: Json | Date, isVerbatim = false): Json {
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map((item) => canonical(item, isVerbatim));
  if (!isObject(value)) return value as Json;
  const entries = Object.entries(value)
    .filter(([, inner]) => isVerbatim || (inner !== null && inner !== undefined))
    .sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, canonical(inner, isVerbatim || VERBATIM.has(key))]));
}
