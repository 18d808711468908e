import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SingleBar } from 'cli-progress';
import { type Environment, loadConfig } from '../platform/config.js';

const POLL_MS = 250;

interface Rebuild {
  readonly id: string;
  readonly state: string;
  readonly processed: number;
  readonly total: number;
}

/** Asks a running Waybill to rebuild a read model and shows how far it is. @throws when the rebuild fails */
export async function rebuildProjection(
  name: string,
  { url, json }: { url?: string; json?: boolean },
  env: Environment,
): Promise<void> {
  const config = loadConfig(env, { cwd: process.cwd() });
  const key = config.adminKey ?? (await readFile(join(config.dataDir, 'admin.key'), 'utf8').catch(() => '')).trim();
  if (key === '') throw new Error('No key: set WAYBILL_ADMIN_KEY, or WAYBILL_DATA to the folder that has admin.key.');
  const ask = api(url ?? `http://${config.host}:${config.port}`, key);

  const fields = 'id name state processed total startedAt finishedAt';
  const started = await ask<{ rebuildProjection: Rebuild }>(
    `mutation ($name: String!) { rebuildProjection(name: $name) { ${fields} } }`,
    { name },
  );
  let rebuild = started.rebuildProjection;
  const bar = json
    ? undefined
    : new SingleBar({ format: `${name} {bar} {percentage}% {value}/{total} events, {eta_formatted} left` });
  bar?.start(Math.max(rebuild.total, 1), rebuild.processed);
  while (rebuild.state === 'running') {
    await delay(POLL_MS);
    const { projections } = await ask<{ projections: { name: string; rebuild: Rebuild | null }[] }>(
      `{ projections { name rebuild { ${fields} } } }`,
    );
    const current = projections.find((projection) => projection.name === name)?.rebuild;
    if (current?.id === rebuild.id) rebuild = current;
    bar?.setTotal(Math.max(rebuild.total, 1));
    bar?.update(rebuild.processed);
  }
  bar?.stop();
  if (json) process.stdout.write(`${JSON.stringify(rebuild)}\n`);
  if (rebuild.state !== 'done')
    throw new Error(`The rebuild of ${name} ended as ${rebuild.state}; the log of Waybill says why.`);
  if (!json) process.stdout.write(`${name} is rebuilt from ${rebuild.total} events.\n`);
}

function api(url: string, key: string) {
  return async <Data>(query: string, variables: Record<string, unknown> = {}): Promise<Data> => {
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
}
