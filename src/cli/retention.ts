import type { Command } from 'commander';
import type { Environment } from '../platform/config.js';
import { apiOf, asking, type ServedOptions } from './api.js';
import { say } from './log-output.js';
import { print, table } from './table.js';

interface RetentionOptions extends ServedOptions {
  readonly organization?: string;
}

interface RetentionClass {
  readonly name: string;
  readonly keep: string | null;
  readonly tags: readonly string[];
}

interface Disposal {
  readonly retention: string;
  readonly keep: string;
  readonly before: string;
  readonly keysDestroyed: number;
  readonly keysOnHold: number;
  readonly keysInUse: number;
}

interface Certificate {
  readonly position: string;
  readonly disposedAt: string;
  readonly retention: string;
  readonly keep: string;
  readonly firstWeek: string;
  readonly lastWeek: string;
  readonly keysDestroyed: number;
  readonly disposedBy: string;
  readonly leafHash: string;
  readonly proof: { readonly index: number; readonly treeSize: number } | null;
}

const CLASSES = 'classes { name keep tags }';

/** `waybill retention …`: how long content is kept, its end, and the evidence of it. */
export function addRetentionCommands(program: Command, env: Environment): void {
  const retention = program.command('retention').description('how long content is kept, and what was disposed of');
  const command = (name: string, description: string) =>
    asking(retention.command(name)).description(description).option('--organization <id>', 'whose');

  command('show', 'the classes, and how long each keeps what').action(
    async ({ organization, json, ...server }: RetentionOptions) => {
      const query = `query ($organization: ID) { retention(organizationId: $organization) { ${CLASSES} } }`;
      const answer = await (await apiOf(env, server))<{ retention: { classes: RetentionClass[] } }>(query, {
        organization,
      });
      print(answer.retention.classes, json, showClasses);
    },
  );

  command('set', 'set one class, and leave the others as they are')
    .argument('<class>', '"standard" is for what no other class is for')
    .argument('<keep>', 'an ISO 8601 duration such as P90D, P6Y or P7Y, or "forever"')
    .requiredOption('--reason <text>', 'why; it is recorded')
    .option('--tags <tag...>', 'deliveries with one of these tags are of this class')
    .action(async (name: string, keep: string, options: RetentionOptions & { reason: string; tags?: string[] }) => {
      const { organization, json, reason, tags, ...server } = options;
      const ask = await apiOf(env, server);
      const query = `query ($organization: ID) { retention(organizationId: $organization) { ${CLASSES} } }`;
      const { retention: now } = await ask<{ retention: { classes: RetentionClass[] } }>(query, { organization });
      const before = now.classes.find((one) => one.name === name);
      const changed = { name, keep: keep === 'forever' ? null : keep, tags: tags ?? before?.tags ?? [] };
      const classes = before ? now.classes.map((one) => (one === before ? changed : one)) : [...now.classes, changed];
      const set = `mutation ($organization: ID, $classes: [RetentionClassInput!]!, $reason: String!) {
        setRetention(organizationId: $organization, classes: $classes, reason: $reason) { ${CLASSES} } }`;
      const answer = await ask<{ setRetention: { classes: RetentionClass[] } }>(set, { organization, classes, reason });
      print(answer.setRetention.classes, json, showClasses);
    });

  command('dispose', 'dispose of what need not be kept any longer; Waybill does so every hour by itself')
    .option('--dry-run', 'only count')
    .action(async ({ organization, json, dryRun = false, ...server }: RetentionOptions & { dryRun?: boolean }) => {
      const query = `mutation ($organization: ID, $dryRun: Boolean) { disposeExpired(organizationId: $organization, dryRun: $dryRun) {
        retention keep before keysDestroyed keysOnHold keysInUse } }`;
      const answer = await (await apiOf(env, server))<{ disposeExpired: Disposal[] }>(query, { organization, dryRun });
      print(answer.disposeExpired, json, (disposals) =>
        table(
          ['CLASS', 'KEEP', 'BEFORE', dryRun ? 'TO DESTROY' : 'DESTROYED', 'ON HOLD', 'IN USE'],
          disposals.map((one) => [
            ...[one.retention, one.keep, one.before],
            ...[one.keysDestroyed, one.keysOnHold, one.keysInUse],
          ]),
        ),
      );
    });

  command('certificates', 'what was disposed of in a year, with each entry’s place in the audit trail')
    .option('--year <year>', 'default: this one', Number)
    .action(async ({ organization, json, year, ...server }: RetentionOptions & { year?: number }) => {
      const ask = await apiOf(env, server);
      const query = `query ($organization: ID, $year: Int, $after: String) {
        disposals(organizationId: $organization, year: $year, first: 200, after: $after) { cursor certificates {
          position disposedAt retention keep firstWeek lastWeek keysDestroyed disposedBy leafHash
          proof { kind treeSize rootHash index leafHash hashes } } } }`;
      for (let after: string | undefined; ; ) {
        type Page = { disposals: { cursor: string | null; certificates: Certificate[] } };
        const { disposals } = await ask<Page>(query, { organization, year, after });
        for (const one of disposals.certificates) say(json ? JSON.stringify(one) : sentence(one));
        if (disposals.cursor === null) return;
        after = disposals.cursor;
      }
    });
}

const showClasses = (classes: readonly RetentionClass[]): void =>
  table(
    ['CLASS', 'KEEP', 'TAGS'],
    classes.map(({ name, keep, tags }) => [name, keep ?? 'forever', tags.join(' ')]),
  );

const sentence = ({ disposedAt, disposedBy, proof, ...one }: Certificate): string =>
  `${disposedAt}: ${one.keysDestroyed} keys of class ${one.retention} (${one.keep}), weeks to ${one.firstWeek} … ${one.lastWeek}, ` +
  `by ${disposedBy}; ${proof ? `entry ${proof.index} of ${proof.treeSize}` : 'not in a checkpoint yet'}, leaf ${one.leafHash}`;
