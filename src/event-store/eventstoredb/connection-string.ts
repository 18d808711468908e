import { readFileSync } from 'node:fs';
import {
  type ConnectionOptions,
  parseConnectionString,
} from '@eventstore/db-client/dist/Client/parseConnectionString.js';

export interface ConnectionSettings extends Omit<ConnectionOptions, 'defaultCredentials'> {
  readonly user: { readonly name: string; readonly password: string } | undefined;
  readonly rootCertificate: Buffer | null;
  readonly userKey: Buffer | null;
  readonly userCertificate: Buffer | null;
}

/**
 * A connection string such as `esdb://user:password@host:2113?tls=true`, read by the client's own parser but for the
 * password: that parser repeats what it was given in its errors and warnings, so it is not given the password.
 *
 * Schemes, hosts and options: https://docs.kurrent.io/clients/grpc/getting-started (connection string). The newer
 * names of the scheme, kurrentdb and kdb, mean the same.
 *
 * @throws one error that names EVENTSTORE_URL
 */
export function readConnectionString(url: string): ConnectionSettings {
  try {
    const { publicPart, user } = takeUser(url.trim());
    const { defaultCredentials: _, ...options } = parseConnectionString(publicPart);
    return {
      ...options,
      user,
      rootCertificate: fileOf('tlsCAFile', options.tlsCAFile),
      userKey: fileOf('userKeyFile', options.userKeyFile),
      userCertificate: fileOf('userCertFile', options.userCertFile),
    };
  } catch (error) {
    // Where in the string it is would be counted without the user.
    throw new Error(`EVENTSTORE_URL: ${(error as Error).message.replace(/ at position \d+/, '')}`);
  }
}

function takeUser(url: string): { publicPart: string; user: ConnectionSettings['user'] } {
  const match = /^([a-z]+)(\+discover)?:\/\//.exec(url);
  if (!match || !['esdb', 'kurrentdb', 'kdb'].includes(match[1] ?? ''))
    throw new Error('expected esdb:// or esdb+discover:// at the beginning');
  const scheme = `esdb${match[2] ?? ''}://`;
  const rest = url.slice(match[0].length);
  const query = rest.search(/\?[\w-]+=/);
  const authority = query === -1 ? rest : rest.slice(0, query);
  if (/(^|@)\/*$/.test(authority)) throw new Error('expected the name of a host');
  const at = authority.lastIndexOf('@');
  if (at === -1) return { publicPart: scheme + rest, user: undefined };
  const [name = '', password] = authority.slice(0, at).split(/:(.*)/s);
  if (name === '' || !password) throw new Error('expected user:password before the @');
  return { publicPart: scheme + rest.slice(at + 1), user: { name: decode(name), password: decode(password) } };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error('the user and the password must be percent-encoded');
  }
}

function fileOf(option: string, path: string | undefined): Buffer | null {
  if (path === undefined) return null;
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Error(`${option}: ${(error as Error).message}`);
  }
}
