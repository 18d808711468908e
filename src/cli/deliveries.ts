import { setTimeout as delay } from 'node:timers/promises';
import { type Command, Option } from 'commander';
import { STATUSES } from '../domain/vocabulary.js';
import type { Environment } from '../platform/config.js';
import { type Ask, apiOf, asking, reaching, type ServedOptions, type ServerOptions, serverOf } from './api.js';
import { download } from './download.js';
import { say } from './log-output.js';
import { pageSize } from './page-size.js';
import { print, table } from './table.js';

/** In these nothing more happens by itself. */
const FINAL = new Set(['DELIVERED', 'FAILED', 'BOUNCED', 'REJECTED', 'EXPIRED', 'CANCELLED']);
const POLL_MS = 500;

export interface ListedDelivery {
  readonly id: string;
  readonly organizationId: string;
  readonly status: string;
  readonly priority: string;
  readonly requestedAt: string;
  readonly legs: readonly { readonly channel: string; readonly status: string; readonly deadLettered: boolean }[];
}

interface ShownDelivery extends ListedDelivery {
  readonly holds: readonly { readonly reason: string; readonly until: string | null }[];
  readonly attempts: readonly {
    readonly number: number;
    readonly channel: string;
    readonly provider: string;
    readonly status: string;
    readonly startedAt: string;
    readonly error: { readonly code: string; readonly message: string } | null;
  }[];
  readonly history: readonly { readonly position: string; readonly type: string; readonly recordedAt: string }[];
}

const LISTED = 'id organizationId status priority requestedAt legs { channel status deadLettered }';
const SHOWN = `${LISTED} holds { reason until } attempts { number channel provider status startedAt error { code message } }
  history { position type recordedAt }`;

interface ListOptions extends ServedOptions {
  readonly organization?: string;
  readonly status?: string[];
  readonly tag?: string;
  readonly first: number;
  readonly after?: string;
  readonly oldestFirst?: boolean;
}

interface ExportOptions extends ServerOptions {
  readonly format: string;
  readonly output?: string;
  readonly organization?: string;
  readonly status?: string[];
  readonly tag?: string;
  readonly from?: string;
  readonly to?: string;
  readonly asOf?: string;
  readonly oldestFirst?: boolean;
}

/** `waybill deliveries …` */
export function addDeliveryCommands(program: Command, env: Environment): void {
  const deliveries = program.command('deliveries').description('list, look at, follow, retry and cancel deliveries');

  asking(deliveries.command('list'))
    .description('deliveries, the newest first')
    .option('--organization <id>', 'only of this organization')
    .addOption(new Option('--status <status...>', 'only in one of these').choices(STATUSES))
    .option('--tag <tag>', 'only with this tag')
    .option('--first <count>', 'how many, 1 to 200', pageSize, 50)
    .option('--after <cursor>', 'what follows on the page that ended there')
    .option('--oldest-first', 'the oldest requests first')
    .action(async ({ organization, status, tag, first, after, oldestFirst, json, ...server }: ListOptions) => {
      const filter = { organizationId: organization, status, tag };
      const page = await listDeliveries(await apiOf(env, server), filter, { first, after, oldestFirst });
      print(page, json, ({ deliveries: found, endCursor }) => {
        showList(found);
        if (endCursor !== null) say(`\nmore: --after ${endCursor}`);
      });
    });

  reaching(deliveries.command('export'))
    .description('all deliveries as a file, the newest first; nothing of it is held in memory')
    .addOption(new Option('--format <format>', 'of the file').choices(['csv', 'jsonl']).default('csv'))
    .option('--output <file>', 'a new file; default: standard output')
    .option('--organization <id>', 'only of this organization')
    .addOption(new Option('--status <status...>', 'only in one of these').choices(STATUSES))
    .option('--tag <tag>', 'only with this tag')
    .option('--from <time>', 'only requested then or later (RFC 3339)')
    .option('--to <time>', 'only requested before then')
    .option('--as-of <time>', 'as they were then: a time with offset (RFC 3339), or a log position')
    .option('--oldest-first', 'the oldest requests first, up to those of now')
    .action(
      async ({ format, output, organization, status, tag, from, to, asOf, oldestFirst, ...server }: ExportOptions) =>
        download(await serverOf(env, server), `deliveries.${format}`, output, {
          ...(oldestFirst && { order: 'OLDEST_FIRST' }),
          ...{
            organizationId: organization,
            status: status?.join(','),
            tag,
            requestedAfter: from,
            requestedBefore: to,
          },
          ...(asOf !== undefined && { [/^\d+$/.test(asOf) ? 'position' : 'at']: asOf }),
        }),
    );

  asking(deliveries.command('show'))
    .description('one delivery: legs, attempts and every recorded step')
    .argument('<id>')
    .action(async (id: string, { json, ...server }: ServedOptions) =>
      print(await deliveryOf(await apiOf(env, server), id), json, show),
    );

  asking(deliveries.command('watch'))
    .description('print every step of a delivery as it is recorded, until nothing more happens by itself')
    .argument('<id>')
    .action(async (id: string, { json, ...server }: ServedOptions) =>
      watch(await apiOf(env, server), id, json ?? false),
    );

  asking(deliveries.command('retry'))
    .description('try again what has failed for good')
    .argument('<id>')
    .action(async (id: string, { json, ...server }: ServedOptions) => {
      const ask = await apiOf(env, server);
      print(await retryDelivery(ask, id), json, (retried) => say(`${retried.id} ${retried.status}`));
    });

  asking(deliveries.command('cancel'))
    .description('stop a delivery; what is sent is sent')
    .argument('<id>')
    .option('--reason <text>', 'why, for the history')
    .action(async (id: string, { reason, json, ...server }: ServedOptions & { reason?: string }) => {
      const ask = await apiOf(env, server);
      const query = 'mutation ($id: ID!, $reason: String) { cancelDelivery(id: $id, reason: $reason) { id status } }';
      const { cancelDelivery } = await ask<{ cancelDelivery: { id: string; status: string } }>(query, { id, reason });
      print(cancelDelivery, json, (cancelled) => say(`${cancelled.id} ${cancelled.status}`));
    });
}

/** @param after the cursor of the last one already seen, in the same order */
export async function listDeliveries(
  ask: Ask,
  filter: object,
  { first, after, oldestFirst }: { first: number; after?: string | undefined; oldestFirst?: boolean | undefined },
) {
  const { deliveries } = await ask<{
    deliveries: { edges: { node: ListedDelivery }[]; pageInfo: { hasNextPage: boolean; endCursor: string | null } };
  }>(
    `query ($filter: DeliveryFilter, $first: Int, $after: String, $order: ListOrder) {
      deliveries(filter: $filter, first: $first, after: $after, order: $order) {
        edges { node { ${LISTED} } } pageInfo { hasNextPage endCursor } } }`,
    { filter, first, after, order: oldestFirst ? 'OLDEST_FIRST' : 'NEWEST_FIRST' },
  );
  const { hasNextPage, endCursor } = deliveries.pageInfo;
  return { deliveries: deliveries.edges.map(({ node }) => node), endCursor: hasNextPage ? endCursor : null };
}

export const showList = (deliveries: readonly ListedDelivery[]): void =>
  table(
    ['ID', 'STATUS', 'PRIORITY', 'ORGANIZATION', 'CHANNELS', 'REQUESTED'],
    deliveries.map(({ id, status, priority, organizationId, legs, requestedAt }) => [
      ...[id, status, priority, organizationId],
      ...[[...new Set(legs.map(({ channel }) => channel))].join(','), requestedAt],
    ]),
  );

export async function retryDelivery(ask: Ask, id: string): Promise<{ id: string; status: string }> {
  const query = 'mutation ($id: ID!) { retryDelivery(id: $id) { id status } }';
  return (await ask<{ retryDelivery: { id: string; status: string } }>(query, { id })).retryDelivery;
}

/** @throws Error, one line, when there is none */
async function deliveryOf(ask: Ask, id: string): Promise<ShownDelivery> {
  const { delivery } = await ask<{ delivery: ShownDelivery | null }>(
    `query ($id: ID!) { delivery(id: $id) { ${SHOWN} } }`,
    { id },
  );
  if (!delivery) throw new Error(`There is no delivery ${id} that these credentials may see.`);
  return delivery;
}

function show({ id, status, organizationId, requestedAt, holds, attempts, history }: ShownDelivery): void {
  say(`${id}  ${status}  ${organizationId}  requested ${requestedAt}`);
  for (const { reason, until } of holds) say(`held: ${reason}${until === null ? '' : ` until ${until}`}`);
  if (attempts.length > 0) say('');
  for (const { number, channel, provider, status: outcome, startedAt, error } of attempts)
    say(
      `attempt ${number}  ${startedAt}  ${channel} by ${provider}  ${outcome}${error ? `  ${error.code}: ${error.message}` : ''}`,
    );
  say('');
  table(
    ['POSITION', 'RECORDED', 'STEP'],
    history.map(({ position, recordedAt, type }) => [position, recordedAt, type]),
  );
}

async function watch(ask: Ask, id: string, isJson: boolean): Promise<void> {
  for (let told = 0; ; await delay(POLL_MS)) {
    const { history, status } = await deliveryOf(ask, id);
    for (const step of history.slice(told))
      say(isJson ? JSON.stringify({ id, ...step }) : `${step.recordedAt}  ${step.type}`);
    told = history.length;
    if (!FINAL.has(status)) continue;
    if (!isJson) say(status);
    return;
  }
}
