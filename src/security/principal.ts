import { type Organizations, PERMISSIONS, type Permission } from '../domain/vocabulary.js';
import type { Requirement } from './permissions.js';

/** Who is calling and what they may touch. Every resolver, query and command gets it; none asks for credentials. */
export interface Principal {
  /** As recorded with everything they do, and as named in approvals. No personal data. */
  readonly actor: string;
  /** What they use to prove it, by a name that is no secret: limits are counted by it. */
  readonly credential: string;
  /** All that any of their permissions reaches; while an operation runs, only what the operation's permission reaches. */
  readonly organizations: Organizations;
  /** Where each permission holds; nowhere when it is missing. */
  readonly grants: ReadonlyMap<Permission, Organizations>;
  /** May do what concerns all organizations at once. */
  readonly isInstallationAdmin: boolean;
  /** Of a token that opens one inbox and nothing else: whose. */
  readonly inbox?: { readonly organizationId: string; readonly person: string };
}

/**
 * The principal as an operation gets to see it: reaching only the organizations in which they have what it needs.
 *
 * @returns undefined when there is none
 */
export function narrowedTo(principal: Principal, { needs }: Requirement): Principal | undefined {
  if (needs === 'authenticated') return principal;
  if (needs === 'installation') return principal.isInstallationAdmin ? principal : undefined;
  const organizations = principal.grants.get(needs);
  if (organizations === principal.organizations) return principal;
  if (organizations === undefined || organizations.length === 0) return undefined;
  const { actor, credential, grants, isInstallationAdmin } = principal;
  return { actor, credential, organizations, grants, isInstallationAdmin };
}

/** Everything, in every organization. */
export const installationAdmin = (actor: string, credential: string): Principal => ({
  actor,
  credential,
  organizations: 'all',
  grants: new Map(PERMISSIONS.map((permission) => [permission, 'all'])),
  isInstallationAdmin: true,
});

/** @param permissions by organization; only these are reached */
export function memberOf(
  actor: string,
  credential: string,
  permissions: ReadonlyMap<string, ReadonlySet<Permission>>,
): Principal {
  const organizations = [...permissions.keys()];
  const grants = new Map<Permission, Organizations>();
  for (const permission of PERMISSIONS) {
    const granted = organizations.filter((id) => permissions.get(id)?.has(permission));
    // The same list where it is the same: then the principal needs no narrowing.
    if (granted.length > 0) grants.set(permission, granted.length === organizations.length ? organizations : granted);
  }
  return { actor, credential, organizations, grants, isInstallationAdmin: false };
}

/** Whether two principals may do the same in the same places. */
export const reachAlike = (one: Principal, other: Principal): boolean =>
  one.isInstallationAdmin === other.isInstallationAdmin &&
  JSON.stringify([...one.grants]) === JSON.stringify([...other.grants]);
