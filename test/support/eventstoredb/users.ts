import { randomUUID } from 'node:crypto';
import { type Metadata, status } from '@grpc/grpc-js';
import { accessDenied, RpcError } from './errors.js';
import type { Proposed } from './requests.js';
import type { Store } from './store.js';
import { isMetastream, originalOf } from './stream-metadata.js';

export interface User {
  readonly name: string;
  readonly roles: readonly string[];
}

export type Operation = 'read' | 'write' | 'delete';

/** The users a new EventStoreDB has, with their passwords. */
const users = new Map([
  ['admin', { password: 'changeit', roles: ['$admins'] }],
  ['ops', { password: 'changeit', roles: ['$ops'] }],
]);

/** Tells the log of the users, as a new EventStoreDB does, so that there are system events in $all from the start. */
export async function recordUsers(store: Store): Promise<void> {
  for (const [loginName, { roles }] of users) {
    const created = { loginName, fullName: loginName, groups: roles, disabled: false };
    const outcome = await store.append(`$user-${loginName}`, 'no-stream', [userEvent('$UserCreated', created)]);
    if (outcome.kind === 'appended') await store.append('$users', 'any', [userEvent('$User', loginName)]);
  }
}

const userEvent = (type: string, data: unknown): Proposed => ({
  ...{ id: randomUUID(), type, contentType: 'application/json' },
  data: Buffer.from(JSON.stringify(data)),
  customMetadata: Buffer.alloc(0),
});

export const ALL_STREAM = '$all';
const EVERYBODY = '$all';
const ADMINS = '$admins';

/** The rights in a stream's $acl. */
const streamRights = { read: '$r', write: '$w', delete: '$d' };
const metastreamRights = { read: '$mr', write: '$mw', delete: undefined };

/**
 * Who calls, and what that allows. With TLS as the real server decides by default: nobody without credentials, system
 * streams and $all for $admins alone, other streams for every user unless their $acl says else. Without TLS the real
 * server is insecure and allows everything; so does this one, but for a password that is wrong.
 */
export class Users {
  readonly #store: Store;
  readonly #isSecure: boolean;

  constructor(store: Store, isSecure: boolean) {
    this.#store = store;
    this.#isSecure = isSecure;
  }

  /** @throws RpcError UNAUTHENTICATED when the call names a user that is not there with that password */
  authenticated(metadata: Metadata): User | undefined {
    const [authorization] = metadata.get('authorization');
    if (authorization === undefined) return undefined;
    const encoded = /^basic +(\S+)$/i.exec(String(authorization))?.[1] ?? '';
    const [, name = '', password] = /^([^:]*):(.*)$/s.exec(Buffer.from(encoded, 'base64').toString('utf8')) ?? [];
    const user = users.get(name);
    if (!user || user.password !== password) throw new RpcError(status.UNAUTHENTICATED, 'Unauthenticated');
    return { name, roles: user.roles };
  }

  /** @throws RpcError access-denied */
  async check(user: User | undefined, stream: string, operation: Operation): Promise<void> {
    if (stream === ALL_STREAM && operation !== 'read') throw accessDenied();
    if (!this.#isSecure) return;
    if (!user) throw accessDenied();
    const about = isMetastream(stream) ? originalOf(stream) : stream;
    const right = (isMetastream(stream) ? metastreamRights : streamRights)[operation];
    if (right === undefined) throw accessDenied();
    if (user.roles.includes(ADMINS)) return;
    const { acl } = await this.#store.metadata(about);
    const granted = acl?.[right] ?? [about.startsWith('$') ? ADMINS : EVERYBODY];
    if (!granted.some((role) => role === EVERYBODY || role === user.name || user.roles.includes(role)))
      throw accessDenied();
  }
}
