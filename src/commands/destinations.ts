import {
  type DestinationCommand,
  type DestinationDefinition,
  type DestinationEvent,
  type DestinationState,
  destination,
  hidden,
} from '../domain/destination.js';
import { instantNow } from '../domain/instant.js';
import type { OpenCircuit } from '../domain/provider.js';
import { badInput, reject } from '../domain/rejection.js';
import { type RetryPolicy, retryPolicy, retryPolicyProblems } from '../domain/retry-policy.js';
import type { Channel, FieldProblem, Json, JsonObject } from '../domain/vocabulary.js';
import type { ChannelCatalog, SigningKind } from './channel-catalog.js';
import { isObject, present } from './delivery-input.js';
import type { DestinationDirectory } from './destination-directory.js';
import type { CommandExecutor, Executed, ExecuteResult, Known, Order, Refused } from './executor.js';
import { newId } from './ids.js';
import type { Requester } from './intake.js';
import { hiddenPaths, joinSecrets, keepHidden, splitSecrets, withValue } from './secrets.js';

/** A destination as a client describes it; the shape is the public API's. */
export interface DestinationInput {
  readonly label: string;
  readonly type: Channel;
  readonly description?: string | null;
  readonly config: Json;
  readonly limits?: { readonly concurrency?: number | null; readonly perSecond?: number | null } | null;
  readonly retry?: { readonly [Key in keyof RetryPolicy]?: RetryPolicy[Key] | null } | null;
  readonly isDefault?: boolean | null;
}

export interface ChangedDestination extends Executed<DestinationState, DestinationEvent> {
  readonly id: string;
  /** Shown once, in the answer to the call that made it. */
  readonly signingSecret?: string;
}

export type SendDestinationOrder = (
  order: Order<DestinationState, DestinationCommand>,
) => Promise<ExecuteResult<DestinationState, DestinationEvent>>;

/** A command that Waybill makes by itself, of what it sees. */
export type Finding =
  | { readonly type: 'DisableDestination'; readonly reason: string }
  | { readonly type: 'EnableDestination' }
  | { readonly type: 'OpenDestinationCircuit'; readonly circuit: OpenCircuit }
  | { readonly type: 'CloseDestinationCircuit' };

type Present = Extract<DestinationState, { tag: 'present' }>;
type MayAccess = (organizationId: string) => boolean;
type Made = { readonly ok: true; readonly command: DestinationCommand } | Refused;

/** Characters. */
const MAX_REASON = 500;
/** Somebody else changes this destination all the time: more than people do. */
const MAX_TRIES = 5;

const notFound = reject('NOT_FOUND', 'there is no such destination');

/** What service teams ask of destinations. */
export class Destinations {
  readonly #catalog: ChannelCatalog;
  readonly #executor: CommandExecutor;
  readonly #directory: DestinationDirectory;
  readonly #send: SendDestinationOrder;

  constructor(
    catalog: ChannelCatalog,
    executor: CommandExecutor,
    directory: DestinationDirectory,
    send: SendDestinationOrder,
  ) {
    this.#catalog = catalog;
    this.#executor = executor;
    this.#directory = directory;
    this.#send = send;
  }

  async create(input: DestinationInput, requester: Requester): Promise<ChangedDestination | Refused> {
    const given = isObject(input.config) ? input.config : {};
    const signing = this.#catalog.newSigningSecret(input.type, given);
    const needsSecret = signing && !hasValue(given, signing.path);
    const config = needsSecret ? withValue(given, signing.path, signing.secret) : given;
    const defined = this.#define(input, config, requester.organizationId, requester);
    if (Array.isArray(defined)) return badInput(defined);
    const command = { type: 'CreateDestination', now: instantNow(), definition: defined } as const;
    const result = await this.#order(newId(), command, requester, requester.organizationId);
    return result.ok && needsSecret && signing.isShared ? { ...result, signingSecret: signing.secret } : result;
  }

  /** What is hidden in `input` stays as it is; so does a signing secret that is left out. */
  update(id: string, input: DestinationInput, requester: Requester, mayAccess: MayAccess) {
    return this.#change(id, requester, mayAccess, ({ definition }) => {
      const { organizationId, secrets, type } = definition;
      const given = this.#signed(type, isObject(input.config) ? input.config : {});
      const misdirected = this.#misdirected(type, given, definition.config);
      if (misdirected.length > 0) return badInput(misdirected);
      const defined = this.#define(input, keepHidden(given, secrets), organizationId, requester);
      if (Array.isArray(defined)) return badInput(defined);
      return { ok: true, command: { type: 'UpdateDestination', now: instantNow(), definition: defined } };
    });
  }

  /** A new signing secret; the one before stays good for the overlap, so that receivers can change at their pace. */
  async rotateSecret(
    id: string,
    { overlapSeconds, signature }: { readonly overlapSeconds: number; readonly signature?: SigningKind | null },
    requester: Requester,
    mayAccess: MayAccess,
  ) {
    if (overlapSeconds < 0 || overlapSeconds > 30 * 86_400)
      return badInput([{ path: 'overlapSeconds', problem: 'must be from 0 to 2592000 (30 days)' }]);
    let signingSecret: string | undefined;
    const result = await this.#change(id, requester, mayAccess, ({ definition: { type, config, secrets } }) => {
      const signing = this.#catalog.newSigningSecret(type, config, signature ?? undefined);
      const until = new Date(Date.now() + overlapSeconds * 1_000);
      const rotated = signing && this.#catalog.rotated(type, joinSecrets(config, secrets), signing.secret, until);
      if (!rotated)
        return badInput([
          { path: 'id', problem: `a ${type} destination does not sign, so it has no secret to rotate` },
        ]);
      if (signing.isShared) signingSecret = signing.secret;
      const split = splitSecrets(rotated, this.#catalog.secretPaths(type, rotated));
      return { ok: true, command: { type: 'RotateDestinationSecret', now: instantNow(), ...split } };
    });
    return result.ok && signingSecret !== undefined ? { ...result, signingSecret } : result;
  }

  delete(id: string, requester: Requester, mayAccess: MayAccess) {
    return this.#change(id, requester, mayAccess, () => ({
      ok: true,
      command: { type: 'DeleteDestination', now: instantNow() },
    }));
  }

  enable(id: string, requester: Requester, mayAccess: MayAccess) {
    return this.#change(id, requester, mayAccess, () => ({
      ok: true,
      command: { type: 'EnableDestination', now: instantNow() },
    }));
  }

  /** Takes no more deliveries until somebody enables or updates it. */
  disable(id: string, reason: string, requester: Requester, mayAccess: MayAccess) {
    return this.#change(id, requester, mayAccess, () =>
      reason.trim() === '' || reason.length > MAX_REASON
        ? badInput([{ path: 'reason', problem: `must have 1 to ${MAX_REASON} characters` }])
        : { ok: true, command: { type: 'DisableDestination', now: instantNow(), reason } },
    );
  }

  /** What Waybill finds out about a destination; nothing when it is gone by then. */
  async note(id: string, found: Finding): Promise<void> {
    const { state } = await this.#executor.load(destination, id);
    if (state.tag !== 'present') return;
    const { organizationId } = state.definition;
    await this.#order(id, { ...found, now: instantNow() }, { actor: 'engine' }, organizationId);
  }

  #define(
    input: DestinationInput,
    config: JsonObject,
    organizationId: string,
    { isAdministrator }: Requester,
  ): DestinationDefinition | FieldProblem[] {
    const problems: FieldProblem[] = [];
    const check = (ok: boolean, path: string, problem: string) => {
      if (!ok) problems.push({ path, problem });
    };
    check(input.label.length >= 1 && input.label.length <= 200, 'label', 'must have from 1 to 200 characters');
    check((input.description?.length ?? 0) <= 2_000, 'description', 'must not be longer than 2000 characters');
    check(isObject(input.config), 'config', 'must be an object');
    if (isObject(input.config)) problems.push(...this.#catalog.configProblems(input.type, config));
    // Whoever says which account is which approver could be any of them.
    const naming = this.#catalog.approvers(input.type, config);
    check(
      !naming || isAdministrator?.(organizationId) === true,
      `config.${naming?.join('.')}`,
      'is for administrators to set',
    );
    for (const path of hiddenPaths(config, this.#catalog.secretPaths(input.type, config)))
      problems.push({ path: `config.${path}`, problem: 'is hidden: give the secret itself' });
    const wishes = { ...this.#catalog.retryPolicy(input.type, config), ...present(input.retry ?? {}) };
    const retry = Object.keys(wishes).length === 0 ? undefined : retryPolicy(wishes as Partial<RetryPolicy>);
    for (const { path, problem } of retry ? retryPolicyProblems(retry) : [])
      problems.push({ path: `retry.${path}`, problem });
    const limits = present(input.limits ?? {}) as { readonly concurrency?: number; readonly perSecond?: number };
    const { concurrency = 1, perSecond = 1 } = limits;
    check(concurrency >= 1 && concurrency <= 10_000, 'limits.concurrency', 'must be from 1 to 10000');
    check(perSecond >= 0.01 && perSecond <= 100_000, 'limits.perSecond', 'must be from 0.01 to 100000');
    if (problems.length > 0) return problems;
    return {
      organizationId,
      label: input.label,
      type: input.type,
      ...(input.description && { description: input.description }),
      ...splitSecrets(this.#catalog.completed(input.type, config), this.#catalog.secretPaths(input.type, config)),
      ...(retry && { retry }),
      ...(Object.keys(limits).length > 0 && { limits }),
      isDefault: input.isDefault ?? false,
    };
  }

  /**
   * A kept credential goes to the server it was given for: whoever names another server must know the credential, or
   * they could have it sent to a server of their own. A signing secret is never sent, so it may stay.
   */
  #misdirected(channel: Channel, next: JsonObject, previous: JsonObject): FieldProblem[] {
    if (this.#catalog.server(channel, next) === this.#catalog.server(channel, previous)) return [];
    return hiddenPaths(next, this.#catalog.credentialPaths(channel, next)).map((path) => ({
      path: `config.${path}`,
      problem: 'must be given again, because the server has changed',
    }));
  }

  /**
   * Makes a command from the destination as it is, and stores it only while it is so: a change that was made meanwhile
   * would be undone by one that never saw it.
   */
  async #change(id: string, requester: Requester, mayAccess: MayAccess, make: (present: Present) => Made) {
    for (let tries = 1; ; tries++) {
      const known = await this.#executor.load(destination, id);
      if (known.state.tag !== 'present' || !mayAccess(known.state.definition.organizationId)) return notFound;
      const made = make(known.state);
      if (!made.ok) return made;
      const { organizationId } = known.state.definition;
      const result = await this.#order(id, made.command, requester, organizationId, known);
      if (result.ok || result.rejection.code !== 'CONFLICT' || tries === MAX_TRIES) return result;
    }
  }

  /** A webhook that says nothing of its secret goes on signing. */
  #signed(channel: Channel, config: JsonObject): JsonObject {
    const path = this.#catalog.newSigningSecret(channel, config)?.path;
    return path && !hasValue(config, path) ? withValue(config, path, hidden) : config;
  }

  async #order(
    id: string,
    command: DestinationCommand,
    { actor, traceparent }: Pick<Requester, 'actor' | 'traceparent'>,
    organizationId: string,
    known?: Known<DestinationState>,
  ): Promise<ChangedDestination | Refused> {
    const envelope = { organizationId, commandId: newId(), actor, ...(traceparent !== undefined && { traceparent }) };
    const result = await this.#send({ id, command, envelope, ...(known && { known, onlyIfKnown: true }) });
    this.#directory.forget(id);
    return result.ok ? { ...result, id } : result;
  }
}

const hasValue = (config: JsonObject, path: readonly string[]): boolean => {
  const at = path.reduce<Json | undefined>((inner, key) => (isObject(inner) ? inner[key] : undefined), config);
  return at !== undefined && at !== null && at !== hidden;
};
