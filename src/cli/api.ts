import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { type Environment, loadConfig } from '../platform/config.js';

export type Ask = <Data>(query: string, variables?: Record<string, unknown>) => Promise<Data>;

/** Where a command finds the Waybill it talks to. */
export interface ServerOptions {
  readonly url?: string;
  readonly key?: string;
}

export interface ServedOptions extends ServerOptions {
  readonly json?: boolean;
}

/** The options of every command that asks a running Waybill. */
export const asking = (command: Command): Command =>
  reaching(command).option('--json', 'print JSON, without a progress bar');

/** Those that say where it is and who asks. */
export const reaching = (command: Command): Command =>
  command
    .option(
      '--url <url>',
      'where Waybill listens (default: WAYBILL_URL, else HOST and PORT, else http://127.0.0.1:3000)',
    )
    .option(
      '--key <key>',
      'an API key (default: WAYBILL_KEY, else WAYBILL_ADMIN_KEY, else admin.key of the data directory)',
    );

/**
 * A running Waybill.
 *
 * @throws Error, one line, when there is no key
 */
export async function apiOf(env: Environment, options: ServerOptions = {}): Promise<Ask> {
  const { url, key } = await serverOf(env, options);
  return api(url, key);
}

/**
 * Where it is, without a slash at the end, and what opens it.
 *
 * @throws Error, one line, when there is no key
 */
export async function serverOf(env: Environment, { url, key }: ServerOptions): Promise<{ url: string; key: string }> {
  const config = loadConfig(env, { cwd: process.cwd() });
  const given = key ?? env.WAYBILL_KEY ?? config.adminKey;
  const used = given || (await readFile(join(config.dataDir, 'admin.key'), 'utf8').catch(() => '')).trim();
  if (used === '')
    throw new Error('No key: give --key or WAYBILL_KEY, or set WAYBILL_DATA to the folder that has admin.key.');
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;
  const where = (url ?? (env.WAYBILL_URL || `http://${host}:${config.port}`)).replace(/\/(graphql)?$/, '');
  return { url: where, key: used };
}

interface Answer<Data> {
  readonly data?: Data | null;
  readonly errors?: readonly {
    readonly message: string;
    readonly extensions?: { readonly fields?: readonly { readonly path: string; readonly problem: string }[] };
  }[];
}

const api =
  (url: string, key: string): Ask =>
  async <Data>(query: string, variables: Record<string, unknown> = {}): Promise<Data> => {
    const response = await fetch(`${url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ query, variables }),
    }).catch(() => {
      throw new Error(`Waybill does not answer at ${url}.`);
    });
    const { data, errors } = (await response.json().catch(() => ({}))) as Answer<Data>;
    const [error] = errors ?? [];
    if (error) {
      const fields = (error.extensions?.fields ?? []).map(({ path, problem }) => `${path}: ${problem}`);
      throw new Error(fields.length > 0 ? fields.join('\n') : error.message);
    }
    if (!data) throw new Error(`${url} answered with HTTP ${response.status}, and not as Waybill does.`);
    return data;
  };
