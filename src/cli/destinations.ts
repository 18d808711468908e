import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import type { Environment } from '../platform/config.js';
import { apiOf, asking, type ServedOptions } from './api.js';
import { say } from './log-output.js';
import { print, table } from './table.js';

interface Destination {
  readonly id: string;
  readonly organizationId: string;
  readonly label: string;
  readonly type: string;
  readonly enabled: boolean;
  readonly isDefault: boolean;
  readonly health: { readonly status: string; readonly consecutiveFailures: number };
  readonly signingSecret?: string | null;
}

const FIELDS = 'id organizationId label type enabled isDefault health { status consecutiveFailures }';

interface CreateOptions extends ServedOptions {
  readonly label: string;
  readonly type: string;
  readonly config: string;
  readonly organization?: string;
  readonly default?: boolean;
}

/** `waybill destinations …` */
export function addDestinationCommands(program: Command, env: Environment): void {
  const destinations = program
    .command('destinations')
    .description('list, make, try out, enable and disable destinations');

  asking(destinations.command('list'))
    .description('all destinations and how they are')
    .option('--organization <id>', 'only of this organization')
    .option('--type <channel>', 'only of this channel: WEBHOOK, EMAIL …')
    .action(
      async ({ organization, type, json, ...server }: ServedOptions & { organization?: string; type?: string }) => {
        const ask = await apiOf(env, server);
        const query = `query ($organizationId: ID, $type: ChannelType) {
        found: destinations(organizationId: $organizationId, type: $type) { ${FIELDS} } }`;
        const { found } = await ask<{ found: Destination[] }>(query, { organizationId: organization, type });
        print(found, json, showList);
      },
    );

  asking(destinations.command('create'))
    .description('make a destination; prints the secret that its receiver checks signatures with, once')
    .requiredOption('--label <text>', 'its name')
    .requiredOption('--type <channel>', 'WEBHOOK, EMAIL …')
    .requiredOption(
      '--config <json>',
      'its configuration as JSON; @FILE reads a file, and @- the standard input: secrets stay out of the list of processes',
    )
    .option('--organization <id>', 'whose it is; needed by keys that span organizations')
    .option('--default', 'deliveries without targets go there')
    .action(async ({ label, type, config, organization, default: isDefault, json, ...server }: CreateOptions) => {
      const ask = await apiOf(env, server);
      const input = {
        organizationId: organization,
        label,
        type,
        config: await jsonOf(config),
        isDefault: isDefault ?? false,
      };
      const query = `mutation ($input: DestinationInput!) { made: createDestination(input: $input) { ${FIELDS} signingSecret } }`;
      const { made } = await ask<{ made: Destination }>(query, { input });
      print(made, json, ({ id, signingSecret }) =>
        say(signingSecret ? `${id}\nsigning secret, shown this once: ${signingSecret}` : id),
      );
    });

  asking(destinations.command('test'))
    .description('try a destination out without delivering anything; ends with 1 when it does not work')
    .argument('<id>')
    .action(async (id: string, { json, ...server }: ServedOptions) => {
      const ask = await apiOf(env, server);
      const query =
        'mutation ($id: ID!) { tested: testDestination(id: $id) { ok latencyMs problems { path problem } } }';
      const { tested } = await ask<{ tested: Tested }>(query, { id });
      print(tested, json, ({ ok, latencyMs }) => ok && say(`works, in ${Math.round(latencyMs)} ms`));
      if (!tested.ok) throw new Error(tested.problems.map(({ path, problem }) => `${path}: ${problem}`).join('\n'));
    });

  asking(destinations.command('enable'))
    .description('let deliveries go there again')
    .argument('<id>')
    .action(async (id: string, { json, ...server }: ServedOptions) => {
      const ask = await apiOf(env, server);
      const query = `mutation ($id: ID!) { changed: enableDestination(id: $id) { ${FIELDS} } }`;
      print((await ask<{ changed: Destination }>(query, { id })).changed, json, (changed) => showList([changed]));
    });

  asking(destinations.command('disable'))
    .description('let no deliveries go there until it is enabled')
    .argument('<id>')
    .requiredOption('--reason <text>', 'why, for the history')
    .action(async (id: string, { reason, json, ...server }: ServedOptions & { reason: string }) => {
      const ask = await apiOf(env, server);
      const query = `mutation ($id: ID!, $reason: String!) { changed: disableDestination(id: $id, reason: $reason) { ${FIELDS} } }`;
      print((await ask<{ changed: Destination }>(query, { id, reason })).changed, json, (changed) =>
        showList([changed]),
      );
    });
}

interface Tested {
  readonly ok: boolean;
  readonly latencyMs: number;
  readonly problems: readonly { readonly path: string; readonly problem: string }[];
}

const showList = (destinations: readonly Destination[]): void =>
  table(
    ['ID', 'LABEL', 'TYPE', 'ORGANIZATION', 'ENABLED', 'DEFAULT', 'HEALTH', 'FAILURES'],
    destinations.map(({ id, label, type, organizationId, enabled, isDefault, health }) => [
      ...[id, label, type, organizationId, enabled, isDefault],
      ...[health.status, health.consecutiveFailures],
    ]),
  );

/** @throws Error, one line, without what it holds */
async function jsonOf(text: string): Promise<unknown> {
  const source = text === '@-' ? '/dev/stdin' : text.startsWith('@') ? text.slice(1) : undefined;
  const json = source === undefined ? text : await readFile(source, 'utf8');
  try {
    return JSON.parse(json);
  } catch {
    throw new Error('--config: is not JSON');
  }
}
