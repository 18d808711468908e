import { setTimeout as delay } from 'node:timers/promises';
import type { Environment } from '../platform/config.js';
import { type Ask, apiOf } from './api.js';
import { RebuildDisplay, type ShownRebuild } from './rebuild-display.js';

const POLL_MS = 250;

export interface RebuildProjectionOptions {
  readonly all?: boolean;
  readonly verifyOnly?: boolean;
  readonly rollback?: boolean;
  readonly cancel?: boolean;
  readonly rate?: string;
  readonly url?: string;
  readonly json?: boolean;
}

const FIELDS = `id name kind state phase comparison reason processed: exactProcessed total: exactTotal
  startedAt finishedAt`;

/**
 * Asks a running Waybill to rebuild read models, one after the other, and shows how far it is.
 *
 * @throws Error, one line, when one fails, or differs although only a comparison was asked for
 */
export async function rebuildProjection(
  name: string | undefined,
  options: RebuildProjectionOptions,
  env: Environment,
): Promise<void> {
  const { all = false, verifyOnly, rollback, cancel, json = false } = options;
  if ((name === undefined) !== all) throw new Error('Name one projection, or say --all.');
  if ([verifyOnly, rollback, cancel].filter(Boolean).length > 1)
    throw new Error('--verify-only, --rollback and --cancel exclude each other.');
  const variables = { rate: rateOf(options) };
  const ask = await apiOf(env, options);
  const names = name === undefined ? await everyName(ask) : [name];
  const mutation = (field: string, takesRate: boolean) =>
    takesRate
      ? `mutation ($name: String!, $rate: Int) { begun: ${field}(name: $name, eventsPerSecond: $rate) { ${FIELDS} } }`
      : `mutation ($name: String!) { begun: ${field}(name: $name) { ${FIELDS} } }`;
  const query = cancel
    ? mutation('cancelRebuild', false)
    : rollback
      ? mutation('rollbackProjection', false)
      : mutation(verifyOnly ? 'verifyProjection' : 'rebuildProjection', true);
  const different: string[] = [];
  for (const one of names) {
    const { begun } = await ask<{ begun: ShownRebuild }>(query, { name: one, ...variables });
    const ended = await follow(ask, begun, json);
    if (json) process.stdout.write(`${JSON.stringify(ended)}\n`);
    if (ended.state !== 'done' && !cancel)
      throw new Error(`The ${ended.kind} of ${one} ended as ${ended.state}${ended.reason ? `: ${ended.reason}` : '.'}`);
    if (ended.comparison === 'different') different.push(one);
  }
  if (verifyOnly && different.length > 0)
    throw new Error(`Not what the event log says: ${different.join(', ')}. Rebuild them.`);
}

async function follow(ask: Ask, begun: ShownRebuild, json: boolean): Promise<ShownRebuild> {
  const display = json ? undefined : new RebuildDisplay(begun);
  let rebuild = begun;
  while (rebuild.state === 'running') {
    await delay(POLL_MS);
    const { projections } = await ask<{ projections: { name: string; rebuild: ShownRebuild | null }[] }>(
      `{ projections { name rebuild { ${FIELDS} } } }`,
    );
    const current = projections.find((projection) => projection.name === begun.name)?.rebuild;
    if (current && current.id !== begun.id) throw new Error(`Another rebuild of ${begun.name} has begun.`);
    if (current) rebuild = current;
    display?.show(rebuild);
  }
  display?.end(rebuild);
  return rebuild;
}

async function everyName(ask: Ask): Promise<string[]> {
  return (await ask<{ projections: { name: string }[] }>('{ projections { name } }')).projections.map(
    ({ name }) => name,
  );
}

function rateOf({ rate }: RebuildProjectionOptions): number | null {
  if (rate === undefined) return null;
  if (!/^[1-9]\d{0,8}$/.test(rate)) throw new Error('--rate: must be a whole number of events per second from 1 on');
  return Number(rate);
}
