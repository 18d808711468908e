import type { Command } from 'commander';
import type { Environment } from '../platform/config.js';
import { apiOf, asking, type ServedOptions } from './api.js';
import { print, table } from './table.js';

interface Projection {
  readonly name: string;
  readonly version: number;
  readonly state: string;
  readonly position: string;
  readonly head: string;
  readonly lagEvents: number;
  readonly lagSeconds: number;
  readonly parked: number;
  readonly lastError: string | null;
}

/** `waybill projections` */
export function addProjectionCommands(program: Command, env: Environment): void {
  asking(program.command('projections'))
    .description('how far the read models are; ends with 1 when one fails')
    .action(async ({ json, ...server }: ServedOptions) => {
      const ask = await apiOf(env, server);
      const query = '{ projections { name version state position head lagEvents lagSeconds parked lastError } }';
      const { projections } = await ask<{ projections: Projection[] }>(query);
      print(projections, json, showAll);
      const failing = projections.filter(({ state }) => state === 'failing');
      if (failing.length > 0)
        throw new Error(failing.map(({ name, lastError }) => `${name}: ${lastError ?? 'failing'}`).join('\n'));
    });
}

const showAll = (projections: readonly Projection[]): void =>
  table(
    ['NAME', 'VERSION', 'STATE', 'POSITION', 'HEAD', 'LAG', 'SECONDS', 'PARKED'],
    projections.map(({ name, version, state, position, head, lagEvents, lagSeconds, parked }) => [
      ...[name, version, state, position, head, lagEvents],
      ...[lagSeconds.toFixed(1), parked],
    ]),
  );
