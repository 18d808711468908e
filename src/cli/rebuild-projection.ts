import { setTimeout as delay } from 'node:timers/promises';
import type { Environment } from '../platform/config.js';
import { type Ask, apiOf } from './api.js';
import { barsOf, RebuildDisplay, resultOf, type ShownRebuild } from './rebuild-display.js';

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
 * Asks a running Waybill to rebuild read models, and shows how far it is. All of them are rebuilt together.
 *
 * @throws Error, one line, when one fails, or differs although only a comparison was asked for
 */
export async function rebuildProjection(
  name: string | undefined,
  options: RebuildProjectionOptions,
  env: Environment,
): Promise<void> {
  const { all = false, verifyOnly = false, rollback, cancel, json = false } = options;
  if ((name === undefined) !== all) throw new Error('Name one projection, or say --all.');
  if ([verifyOnly, rollback, cancel].filter(Boolean).length > 1)
    throw new Error('--verify-only, --rollback and --cancel exclude each other.');
  const rate = rateOf(options);
  const ask = await apiOf(env, options);
  const one = async (field: string, which: string) => {
    const query = `mutation ($name: String!) { begun: ${field}(name: $name) { ${FIELDS} } }`;
    return [(await ask<{ begun: ShownRebuild }>(query, { name: which })).begun];
  };
  const ended: ShownRebuild[] = [];
  if (rollback || cancel)
    for (const which of name === undefined ? await everyName(ask) : [name])
      ended.push(...(await follow(ask, await one(cancel ? 'cancelRebuild' : 'rollbackProjection', which), json)));
  else {
    const query = `mutation ($names: [String!], $verifyOnly: Boolean, $rate: Int) {
      begun: rebuildProjections(names: $names, verifyOnly: $verifyOnly, eventsPerSecond: $rate) { ${FIELDS} } }`;
    const { begun } = await ask<{ begun: ShownRebuild[] }>(query, { names: name && [name], verifyOnly, rate });
    ended.push(...(await follow(ask, begun, json)));
  }
  for (const { name: which, kind, state, reason } of ended)
    if (state !== 'done' && !cancel)
      throw new Error(`The ${kind} of ${which} ended as ${state}${reason ? `: ${reason}` : '.'}`);
  const different = ended.filter(({ comparison }) => comparison === 'different').map((rebuild) => rebuild.name);
  if (verifyOnly && different.length > 0)
    throw new Error(`Not what the event log says: ${different.join(', ')}. Rebuild them.`);
}

/** Until all have ended. */
async function follow(ask: Ask, begun: readonly ShownRebuild[], json: boolean): Promise<readonly ShownRebuild[]> {
  const bars = json ? undefined : barsOf(process.stderr);
  const displays = new Map(json ? [] : begun.map((rebuild) => [rebuild.id, new RebuildDisplay(rebuild, bars)]));
  let rebuilds = begun;
  try {
    while (rebuilds.some(({ state }) => state === 'running')) {
      await delay(POLL_MS);
      const { projections } = await ask<{ projections: { name: string; rebuild: ShownRebuild | null }[] }>(
        `{ projections { name rebuild { ${FIELDS} } } }`,
      );
      rebuilds = rebuilds.map((rebuild) => {
        if (rebuild.state !== 'running') return rebuild;
        const now = projections.find((projection) => projection.name === rebuild.name)?.rebuild;
        if (now && now.id !== rebuild.id) {
          // The one before it: the server's threads may not have told each other yet.
          if (now.startedAt <= rebuild.startedAt) return rebuild;
          throw new Error(`Another rebuild of ${rebuild.name} has begun.`);
        }
        if (now) displays.get(now.id)?.[now.state === 'running' ? 'show' : 'end'](now);
        return now ?? rebuild;
      });
    }
  } finally {
    bars?.stop();
  }
  for (const rebuild of rebuilds) {
    const result = json ? JSON.stringify(rebuild) : resultOf(rebuild);
    if (result !== undefined) process.stdout.write(`${result}\n`);
  }
  return rebuilds;
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
