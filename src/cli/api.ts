import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Environment, loadConfig } from '../platform/config.js';

export type Ask = <Data>(query: string, variables?: Record<string, unknown>) => Promise<Data>;

/** A running Waybill, asked with the administrator's key. @throws Error, one line, when there is no key */
export async function apiOf(env: Environment, url?: string): Promise<Ask> {
  const config = loadConfig(env, { cwd: process.cwd() });
  const key = config.adminKey ?? (await readFile(join(config.dataDir, 'admin.key'), 'utf8').catch(() => '')).trim();
  if (key === '') throw new Error('No key: set WAYBILL_ADMIN_KEY, or WAYBILL_DATA to the folder that has admin.key.');
  return api(url ?? `http://${config.host}:${config.port}`, key);
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
    const { data, errors } = (await response.json()) as { data?: Data; errors?: { message: string }[] };
    if (errors?.[0] || !data) throw new Error(errors?.[0]?.message ?? `Waybill answered with HTTP ${response.status}.`);
    return data;
  };
