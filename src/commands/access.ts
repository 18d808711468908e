import type { AccessCommand, AccessEvent, AccessState, ApiKey } from '../domain/access.js';
import { badInput, reject } from '../domain/rejection.js';
import type { AccessDirectory, OrganizationAccess } from './access-directory.js';
import type { Executed, ExecuteResult, Order, Refused } from './executor.js';
import { accessId, newId } from './ids.js';
import type { Requester } from './intake.js';

export type SendAccessOrder = (
  order: Order<AccessState, AccessCommand>,
) => Promise<ExecuteResult<AccessState, AccessEvent>>;

type Changed = Executed<AccessState, AccessEvent> | Refused;
type Without<Command> = Command extends unknown ? Omit<Command, 'now'> : never;

/** A key's place and what its new secret looks like from outside; made where keys are made. */
export interface KeyMaterial {
  readonly keyId: string;
  readonly hash: string;
}

/** Seconds. */
const LONGEST_OVERLAP = 30 * 86_400;
const MAX_REASON = 500;

/** What an organization's administrators do with its keys and roles. */
export class Access {
  readonly #directory: AccessDirectory;
  readonly #send: SendAccessOrder;

  constructor(directory: AccessDirectory, send: SendAccessOrder) {
    this.#directory = directory;
    this.#send = send;
  }

  async of(organizationId: string): Promise<AccessState> {
    return (await this.#directory.find(accessId(organizationId))).state;
  }

  createKey(
    { keyId, hash }: KeyMaterial,
    { name, roles, expiresAt }: { readonly name: string; readonly roles: readonly string[]; readonly expiresAt?: Date },
    requester: Requester,
  ) {
    const until = expiresAt && { expiresAt: expiresAt.toISOString() };
    const command = { type: 'CreateApiKey', keyId, hash, name, roles, ...until, by: requester.actor } as const;
    return this.order(command, requester);
  }

  /** The key gets another secret; the one before stays good for the overlap. */
  async rotateKey({ keyId, hash }: KeyMaterial, overlapSeconds: number, requester: Requester): Promise<Changed> {
    if (overlapSeconds < 0 || overlapSeconds > LONGEST_OVERLAP)
      return badInput([{ path: 'overlapSeconds', problem: `must be from 0 to ${LONGEST_OVERLAP} (30 days)` }]);
    const previousUntil = new Date(Date.now() + overlapSeconds * 1_000).toISOString();
    return await this.order({ type: 'RotateApiKey', keyId, hash, previousUntil }, requester);
  }

  async revokeKey(keyId: string, reason: string | undefined, requester: Requester): Promise<Changed> {
    if ((reason?.length ?? 0) > MAX_REASON)
      return badInput([{ path: 'reason', problem: `must have at most ${MAX_REASON} characters` }]);
    return await this.order({ type: 'RevokeApiKey', keyId, ...(reason && { reason }) }, requester);
  }

  async order(command: Without<AccessCommand>, { organizationId, actor, traceparent }: Requester): Promise<Changed> {
    const id = accessId(organizationId);
    const envelope = { organizationId, commandId: newId(), actor, ...(traceparent !== undefined && { traceparent }) };
    const now = new Date().toISOString();
    try {
      return await this.#send({ id, command: { ...command, now } as AccessCommand, envelope });
    } finally {
      this.#directory.forget(id);
    }
  }

  /** The organization a key belongs to; refused as unknown unless the caller reaches it. */
  async ownerOf(
    streamId: string,
    keyId: string,
    mayAccess: (organizationId: string) => boolean,
  ): Promise<{ readonly ok: true; readonly organizationId: string; readonly key: ApiKey } | Refused> {
    const { state, organizationId }: OrganizationAccess = await this.#directory.find(streamId);
    const key = state.keys.get(keyId);
    if (!key || organizationId === undefined || !mayAccess(organizationId))
      return reject('NOT_FOUND', 'there is no such key');
    return { ok: true, organizationId, key };
  }
}
