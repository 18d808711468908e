import type { Command } from 'commander';
import type { Environment } from '../platform/config.js';
import { say } from './log-output.js';

interface AnalystOptions {
  readonly organization?: readonly string[];
  readonly allOrganizations?: boolean;
  readonly remove?: boolean;
  readonly json?: boolean;
}

/** `waybill database …` */
export function addDatabaseCommands(program: Command, env: Environment): void {
  const database = program.command('database').description('who may read the PostgreSQL that DATABASE_URL names');
  database
    .command('analyst-role')
    .description('make a read-only role for analysts, or change what it sees; its password is printed once')
    .argument('<role>')
    .option('--organization <ids...>', 'the organizations whose rows it sees')
    .option('--all-organizations', 'it sees all of them, also those to come')
    .option('--remove', 'it sees nothing any more and cannot log in')
    .option('--json', 'print the result as JSON')
    .action((role: string, options: AnalystOptions) => analystRole(env, role, options));
}

async function analystRole(env: Environment, role: string, options: AnalystOptions): Promise<void> {
  const { organization, allOrganizations = false, remove = false, json = false } = options;
  const ways = [organization !== undefined, allOrganizations, remove].filter(Boolean).length;
  if (ways !== 1) throw new Error('Say one of --organization, --all-organizations and --remove.');
  // Only this command needs them.
  const [{ grantAnalyst, revokeAnalyst }, { withDatabase }] = await Promise.all([
    import('../platform/analysts.js'),
    import('./migrate.js'),
  ]);
  await withDatabase(env, async (database) => {
    if (remove) {
      await revokeAnalyst(database, role);
      say(json ? JSON.stringify({ role, organizations: [] }) : `${role} sees nothing any more.`);
      return;
    }
    const organizations = allOrganizations ? 'all' : (organization ?? []);
    const password = await grantAnalyst(database, { role, organizations });
    if (json) say(JSON.stringify({ role, organizations, ...(password !== undefined && { password }) }));
    else {
      say(`${role} reads the views of the schema waybill_analytics (docs/analysts.md).`);
      if (password !== undefined) say(`password: ${password}`);
    }
  });
}
