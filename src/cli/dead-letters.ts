import type { Command } from 'commander';
import type { Environment } from '../platform/config.js';
import { type Ask, apiOf, asking, type ServedOptions } from './api.js';
import { listDeliveries, retryDelivery, showList } from './deliveries.js';
import { say } from './log-output.js';
import { pageSize } from './page-size.js';
import { print } from './table.js';

interface ListOptions extends ServedOptions {
  readonly organization?: string;
  readonly first: number;
  readonly after?: string;
  readonly oldestFirst?: boolean;
}

/** `waybill dead-letters …`: what has failed for good and waits for a person. */
export function addDeadLetterCommands(program: Command, env: Environment): void {
  const deadLetters = program.command('dead-letters').description('what has failed for good and waits for a person');

  asking(deadLetters.command('list'))
    .description('deliveries with a leg that has failed for good, the newest first')
    .option('--organization <id>', 'only of this organization')
    .option('--first <count>', 'how many, 1 to 200', pageSize, 50)
    .option('--after <cursor>', 'what follows on the page that ended there')
    .option('--oldest-first', 'the oldest requests first')
    .action(async ({ organization, first, after, oldestFirst, json, ...server }: ListOptions) => {
      const filter = { organizationId: organization, deadLettered: true };
      const page = await listDeliveries(await apiOf(env, server), filter, { first, after, oldestFirst });
      print(page, json, ({ deliveries, endCursor }) => {
        showList(deliveries);
        if (endCursor !== null) say(`\nmore: --after ${endCursor}`);
      });
    });

  asking(deadLetters.command('retry'))
    .description('try again; ends with 1 when one could not be retried')
    .argument('[id...]')
    .option('--all', 'all of them, as they are when this begins')
    .option('--organization <id>', 'with --all: only of this organization')
    .action(
      async (
        ids: string[],
        { all, organization, json, ...server }: ServedOptions & { all?: boolean; organization?: string },
      ) => {
        if (ids.length > 0 === (all === true)) throw new Error('Name some, or say --all.');
        const ask = await apiOf(env, server);
        await retryEach(ask, all ? await everyId(ask, organization) : ids, json ?? false);
      },
    );
}

async function everyId(ask: Ask, organizationId: string | undefined): Promise<string[]> {
  const ids: string[] = [];
  let after: string | undefined;
  do {
    const page = await listDeliveries(ask, { organizationId, deadLettered: true }, { first: 200, after });
    ids.push(...page.deliveries.map(({ id }) => id));
    after = page.endCursor ?? undefined;
  } while (after !== undefined);
  return ids;
}

async function retryEach(ask: Ask, ids: readonly string[], isJson: boolean): Promise<void> {
  let refused = 0;
  for (const id of ids) {
    const outcome = await retryDelivery(ask, id).catch((error: Error) => ({ id, error: error.message }));
    if ('error' in outcome) refused++;
    say(isJson ? JSON.stringify(outcome) : `${id} ${'error' in outcome ? outcome.error : outcome.status}`);
  }
  if (refused > 0) throw new Error(`${refused} of ${ids.length} could not be retried.`);
}
