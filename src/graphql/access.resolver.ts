import { UseFilters } from '@nestjs/common';
import { Args, Context, Mutation, Query, Resolver } from '@nestjs/graphql';
import { Access } from '../commands/access.js';
import { accessId } from '../commands/ids.js';
import type { ApiKey } from '../domain/access.js';
import { BUILT_IN_ROLES, PERMISSIONS, type Permission } from '../domain/vocabulary.js';
import { idOf, newApiKey, placeOf, prefixOf } from '../security/api-key.js';
import { ApiError, unwrap } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';
import { accessOf, organizationFor, type RequestContext, requesterFor } from './request-context.js';

interface ApiKeyInput {
  readonly organizationId?: string | null;
  readonly name: string;
  readonly roles: readonly string[];
  readonly expiresAt?: Date | null;
}

/** Keys, roles, and who one is. */
@Resolver()
@UseFilters(PassErrorsOn)
export class AccessResolver {
  constructor(private readonly access: Access) {}

  @Query()
  me(@Context() { principal }: RequestContext) {
    const { actor, organizations, isInstallationAdmin, grants } = principal;
    const within = (organizationId: string) =>
      PERMISSIONS.filter((permission) => grants.get(permission)?.includes(organizationId));
    const permissions =
      organizations === 'all'
        ? [{ organizationId: null, permissions: PERMISSIONS }]
        : organizations.map((organizationId) => ({ organizationId, permissions: within(organizationId) }));
    return { actor, organizations: organizations === 'all' ? null : organizations, isInstallationAdmin, permissions };
  }

  @Query()
  async apiKeys(
    @Context() context: RequestContext,
    @Args('organizationId') named?: string | null,
    @Args('prefix') prefix?: string | null,
  ) {
    const organizationId = organizationFor(context, named, 'organizationId');
    const { keys } = await this.access.of(organizationId);
    return [...keys.values()]
      .map((key) => shown(key, organizationId))
      .filter((key) => key.prefix.startsWith(prefix ?? ''))
      .reverse();
  }

  @Query()
  async roles(@Context() context: RequestContext, @Args('organizationId') named?: string | null) {
    const { roles } = await this.access.of(organizationFor(context, named, 'organizationId'));
    return [
      ...Object.entries(BUILT_IN_ROLES).map(([name, permissions]) => ({ name, permissions, isBuiltIn: true })),
      ...[...roles].map(([name, permissions]) => ({ name, permissions, isBuiltIn: false })),
    ];
  }

  @Query()
  async roleAssignments(@Context() context: RequestContext, @Args('organizationId') named?: string | null) {
    const { assignments } = await this.access.of(organizationFor(context, named, 'organizationId'));
    return [...assignments].map(([identity, roles]) => ({ identity, roles }));
  }

  @Mutation()
  async createApiKey(@Context() context: RequestContext, @Args('input') input: ApiKeyInput) {
    const organizationId = organizationFor(context, input.organizationId, 'organizationId');
    const { name, roles, expiresAt } = input;
    const made = newApiKey({ streamId: accessId(organizationId) });
    const wanted = { name, roles, ...(expiresAt && { expiresAt }) };
    const { state } = unwrap(await this.access.createKey(made, wanted, requesterFor(context, organizationId)));
    return { apiKey: shown(state.keys.get(made.keyId), organizationId), secret: made.text };
  }

  @Mutation()
  async rotateApiKey(
    @Context() context: RequestContext,
    @Args('id') id: string,
    @Args('overlapSeconds') overlapSeconds: number,
  ) {
    const { organizationId, keyId } = await this.#find(context, id);
    const { text, hash } = newApiKey({ id });
    const requester = requesterFor(context, organizationId);
    const { state } = unwrap(await this.access.rotateKey({ keyId, hash }, overlapSeconds, requester));
    return { apiKey: shown(state.keys.get(keyId), organizationId), secret: text };
  }

  @Mutation()
  async revokeApiKey(
    @Context() context: RequestContext,
    @Args('id') id: string,
    @Args('reason') reason?: string | null,
  ) {
    const { organizationId, keyId } = await this.#find(context, id);
    const requester = requesterFor(context, organizationId);
    const { state } = unwrap(await this.access.revokeKey(keyId, reason ?? undefined, requester));
    return shown(state.keys.get(keyId), organizationId);
  }

  @Mutation()
  async defineRole(
    @Context() context: RequestContext,
    @Args('name') role: string,
    @Args('permissions') permissions: readonly Permission[],
    @Args('organizationId') named?: string | null,
  ) {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    const { state } = unwrap(await this.access.order({ type: 'DefineRole', role, permissions }, requester));
    return { name: role, permissions: state.roles.get(role), isBuiltIn: false };
  }

  @Mutation()
  async removeRole(
    @Context() context: RequestContext,
    @Args('name') role: string,
    @Args('organizationId') named?: string | null,
  ) {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    unwrap(await this.access.order({ type: 'RemoveRole', role }, requester));
    return true;
  }

  @Mutation()
  async assignRoles(
    @Context() context: RequestContext,
    @Args('identity') identity: string,
    @Args('roles') roles: readonly string[],
    @Args('organizationId') named?: string | null,
  ) {
    const requester = requesterFor(context, organizationFor(context, named, 'organizationId'));
    const { state } = unwrap(await this.access.order({ type: 'AssignRoles', identity, roles }, requester));
    return { identity, roles: state.assignments.get(identity) ?? [] };
  }

  async #find(context: RequestContext, id: string): Promise<{ organizationId: string; keyId: string }> {
    const place = placeOf(id);
    if (!place) throw new ApiError('NOT_FOUND', 'there is no such key');
    const { organizationId } = unwrap(await this.access.ownerOf(place.streamId, place.keyId, accessOf(context)));
    return { organizationId, keyId: place.keyId };
  }
}

function shown(key: ApiKey | undefined, organizationId: string) {
  if (!key) throw new Error('the key is gone');
  const { secrets, id: keyId, ...rest } = key;
  const now = new Date().toISOString();
  const isExpired = key.expiresAt !== undefined && key.expiresAt <= now;
  const until = secrets[1]?.until;
  const id = idOf(accessId(organizationId), keyId);
  return {
    ...rest,
    id,
    organizationId,
    prefix: prefixOf(id),
    status: key.revokedAt !== undefined ? 'REVOKED' : isExpired ? 'EXPIRED' : 'ACTIVE',
    previousSecretUntil: until !== undefined && until > now ? until : null,
  };
}
