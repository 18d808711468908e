import { badInput, type Decision, record, reject } from './rejection.js';
import { BUILT_IN_ROLES, type FieldProblem, type Instant, PERMISSIONS, type Permission } from './vocabulary.js';

/** Who has access to one organization: its API keys, its own roles, and the roles of people known by other means. */

/** A secret that proves a key: SHA-256 of the whole key, base64url. Nothing here opens anything. */
export interface KeySecret {
  readonly hash: string;
  /** Good until then; without it, as long as the key is. */
  readonly until?: Instant;
}

export interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly roles: readonly string[];
  readonly createdAt: Instant;
  /** The actor who made it. */
  readonly createdBy: string;
  readonly expiresAt?: Instant;
  readonly revokedAt?: Instant;
  /** The newest first; during a rotation's overlap two. */
  readonly secrets: readonly KeySecret[];
}

interface Fact<Type extends string, Data> {
  readonly type: Type;
  readonly at: Instant;
  readonly data: Data;
}

export type AccessEvent =
  | Fact<
      'ApiKeyCreated',
      {
        readonly keyId: string;
        readonly name: string;
        readonly roles: readonly string[];
        readonly hash: string;
        readonly expiresAt?: Instant;
        readonly by: string;
      }
    >
  | Fact<'ApiKeyRotated', { readonly keyId: string; readonly hash: string; readonly previousUntil: Instant }>
  | Fact<'ApiKeyRevoked', { readonly keyId: string; readonly reason?: string }>
  | Fact<'RoleDefined', { readonly role: string; readonly permissions: readonly Permission[] }>
  | Fact<'RoleRemoved', { readonly role: string }>
  /** `identity` is an actor as the log has it; an empty list takes its roles away. */
  | Fact<'RolesAssigned', { readonly identity: string; readonly roles: readonly string[] }>;

export type AccessCommand =
  | {
      readonly type: 'CreateApiKey';
      readonly now: Instant;
      readonly keyId: string;
      readonly name: string;
      readonly roles: readonly string[];
      readonly hash: string;
      readonly expiresAt?: Instant;
      readonly by: string;
    }
  | {
      readonly type: 'RotateApiKey';
      readonly now: Instant;
      readonly keyId: string;
      readonly hash: string;
      readonly previousUntil: Instant;
    }
  | { readonly type: 'RevokeApiKey'; readonly now: Instant; readonly keyId: string; readonly reason?: string }
  | {
      readonly type: 'DefineRole';
      readonly now: Instant;
      readonly role: string;
      readonly permissions: readonly string[];
    }
  | { readonly type: 'RemoveRole'; readonly now: Instant; readonly role: string }
  | {
      readonly type: 'AssignRoles';
      readonly now: Instant;
      readonly identity: string;
      readonly roles: readonly string[];
    };

export interface AccessState {
  readonly keys: ReadonlyMap<string, ApiKey>;
  /** The organization's own. */
  readonly roles: ReadonlyMap<string, readonly Permission[]>;
  readonly assignments: ReadonlyMap<string, readonly string[]>;
}

/** Everything an organization has is read into memory to check one key: so much of it, and no more. */
const LIMITS = { liveKeys: 1_000, roles: 100, assignments: 10_000, rolesOfOne: 20 } as const;

const ROLE_NAME = /^[a-z][a-z0-9-]{0,63}$/;
/** Of an actor: what may stand in metadata and logs. No `@`: an e-mail address is personal data. */
export const IDENTITY = /^[A-Za-z0-9][A-Za-z0-9._:|/+=-]{0,199}$/;

export const isLive = (key: ApiKey, now: Instant): boolean =>
  key.revokedAt === undefined && (key.expiresAt === undefined || key.expiresAt > now);

/** What the roles allow together; those that are not defined (any more) allow nothing. */
export function permissionsOf(state: AccessState, roles: readonly string[]): Set<Permission> {
  const builtIn = (role: string) => (Object.hasOwn(BUILT_IN_ROLES, role) ? BUILT_IN_ROLES[role] : undefined);
  return new Set(roles.flatMap((role) => builtIn(role) ?? state.roles.get(role) ?? []));
}

type Result = Decision<AccessEvent>;

export function decide(command: AccessCommand, state: AccessState): Result {
  switch (command.type) {
    case 'CreateApiKey':
      return createKey(command, state);
    case 'RotateApiKey': {
      const { keyId, now, hash, previousUntil } = command;
      const key = state.keys.get(keyId);
      if (!key) return noSuchKey();
      if (!isLive(key, now)) return reject('CONFLICT', 'this key is revoked or expired: create another one');
      return record({ type: 'ApiKeyRotated', at: now, data: { keyId, hash, previousUntil } });
    }
    case 'RevokeApiKey': {
      const { keyId, now, reason } = command;
      const key = state.keys.get(keyId);
      if (!key) return noSuchKey();
      if (key.revokedAt !== undefined) return record();
      return record({ type: 'ApiKeyRevoked', at: now, data: { keyId, ...(reason !== undefined && { reason }) } });
    }
    case 'DefineRole':
      return defineRole(command, state);
    case 'RemoveRole': {
      const { role, now } = command;
      if (!state.roles.has(role)) return reject('NOT_FOUND', 'the organization has no such role of its own');
      if (isUsed(role, state, now))
        return reject('CONFLICT', 'a key or a person has this role: give them another one first');
      return record({ type: 'RoleRemoved', at: now, data: { role } });
    }
    case 'AssignRoles':
      return assignRoles(command, state);
  }
}

function createKey(command: Extract<AccessCommand, { type: 'CreateApiKey' }>, state: AccessState): Result {
  const { now, keyId, name, roles, hash, expiresAt, by } = command;
  const problems = roleProblems(roles, state);
  if (name.trim() === '' || name.length > 100)
    problems.push({ path: 'name', problem: 'must have 1 to 100 characters' });
  if (roles.length === 0) problems.push({ path: 'roles', problem: 'must name at least one role' });
  if (expiresAt !== undefined && expiresAt <= now) problems.push({ path: 'expiresAt', problem: 'is in the past' });
  if (problems.length > 0) return badInput(problems);
  if (state.keys.has(keyId)) return reject('CONFLICT', 'this key exists already');
  if ([...state.keys.values()].filter((key) => isLive(key, now)).length >= LIMITS.liveKeys)
    return reject('CONFLICT', `the organization has ${LIMITS.liveKeys} keys: revoke those that are not used`);
  const until = expiresAt !== undefined && { expiresAt };
  return record({ type: 'ApiKeyCreated', at: now, data: { keyId, name, roles, hash, ...until, by } });
}

function defineRole(command: Extract<AccessCommand, { type: 'DefineRole' }>, state: AccessState): Result {
  const { now, role, permissions } = command;
  const problems: FieldProblem[] = [];
  if (!ROLE_NAME.test(role))
    problems.push({ path: 'name', problem: 'must have 1 to 64 small letters, digits and dashes, a letter first' });
  if (Object.hasOwn(BUILT_IN_ROLES, role)) problems.push({ path: 'name', problem: 'is a built-in role' });
  if (!state.roles.has(role) && state.roles.size >= LIMITS.roles)
    problems.push({ path: 'name', problem: `is one more than the ${LIMITS.roles} roles an organization can have` });
  const known = PERMISSIONS.filter((permission) => permissions.includes(permission));
  if (known.length === 0) problems.push({ path: 'permissions', problem: 'must name at least one permission' });
  if (problems.length > 0) return badInput(problems);
  const before = state.roles.get(role);
  if (before && before.length === known.length && before.every((permission) => known.includes(permission)))
    return record();
  return record({ type: 'RoleDefined', at: now, data: { role, permissions: known } });
}

function assignRoles(command: Extract<AccessCommand, { type: 'AssignRoles' }>, state: AccessState): Result {
  const { now, identity, roles } = command;
  const problems = roleProblems(roles, state);
  if (!IDENTITY.test(identity))
    problems.push({
      path: 'identity',
      problem: 'must be an actor such as corp:8f14e45f: letters, digits and . _ : | / + = -; no e-mail address',
    });
  if (roles.length > 0 && !state.assignments.has(identity) && state.assignments.size >= LIMITS.assignments)
    problems.push({ path: 'identity', problem: `is one more than ${LIMITS.assignments}: let your provider say roles` });
  if (problems.length > 0) return badInput(problems);
  const before = state.assignments.get(identity) ?? [];
  if (before.length === roles.length && before.every((role) => roles.includes(role))) return record();
  return record({ type: 'RolesAssigned', at: now, data: { identity, roles } });
}

function roleProblems(roles: readonly string[], state: AccessState): FieldProblem[] {
  if (roles.length > LIMITS.rolesOfOne)
    return [{ path: 'roles', problem: `must not be more than ${LIMITS.rolesOfOne}` }];
  return [...roles.entries()].flatMap(([index, role]) =>
    Object.hasOwn(BUILT_IN_ROLES, role) || state.roles.has(role)
      ? []
      : [{ path: `roles.${index}`, problem: 'there is no such role' }],
  );
}

const isUsed = (role: string, { keys, assignments }: AccessState, now: Instant): boolean =>
  [...keys.values()].some((key) => isLive(key, now) && key.roles.includes(role)) ||
  [...assignments.values()].some((roles) => roles.includes(role));

const noSuchKey = () => reject('NOT_FOUND', 'there is no such key');

export function evolve(state: AccessState, event: AccessEvent): AccessState {
  switch (event.type) {
    case 'ApiKeyCreated': {
      const { keyId, name, roles, hash, expiresAt, by } = event.data;
      const until = expiresAt !== undefined && { expiresAt };
      const key = { id: keyId, name, roles, createdAt: event.at, createdBy: by, ...until, secrets: [{ hash }] };
      return { ...state, keys: new Map(state.keys).set(keyId, key) };
    }
    case 'ApiKeyRotated': {
      const { hash, previousUntil } = event.data;
      return withKey(state, event.data.keyId, (key) => {
        const [previous] = key.secrets;
        return { ...key, secrets: [{ hash }, ...(previous ? [{ ...previous, until: previousUntil }] : [])] };
      });
    }
    case 'ApiKeyRevoked':
      return withKey(state, event.data.keyId, (key) => ({ ...key, revokedAt: event.at, secrets: [] }));
    case 'RoleDefined':
      return { ...state, roles: new Map(state.roles).set(event.data.role, event.data.permissions) };
    case 'RoleRemoved':
      return { ...state, roles: without(state.roles, event.data.role) };
    case 'RolesAssigned': {
      const { identity, roles } = event.data;
      const assignments =
        roles.length === 0 ? without(state.assignments, identity) : new Map(state.assignments).set(identity, roles);
      return { ...state, assignments };
    }
  }
}

function withKey(state: AccessState, id: string, change: (key: ApiKey) => ApiKey): AccessState {
  const key = state.keys.get(id);
  if (!key) throw new Error(`key ${id} was never created`);
  return { ...state, keys: new Map(state.keys).set(id, change(key)) };
}

function without<Value>(map: ReadonlyMap<string, Value>, key: string): ReadonlyMap<string, Value> {
  const rest = new Map(map);
  rest.delete(key);
  return rest;
}

export const access = {
  category: 'access',
  initial: { keys: new Map(), roles: new Map(), assignments: new Map() } as AccessState,
  decide,
  evolve,
} as const;
