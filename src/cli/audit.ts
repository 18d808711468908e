import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { SigningKeys } from '../audit/signing-keys.js';
import { type Environment, loadConfig } from '../platform/config.js';
import { writeDurably } from '../platform/data-directory.js';
import { apiOf, asking, type ServedOptions } from './api.js';
import { exportBundle } from './audit-export.js';
import { type VerifyOptions, verifyFile, verifyServer } from './audit-verify.js';
import { say } from './log-output.js';

interface Checkpoint {
  readonly treeSize: number;
  readonly note: string;
}

/** `waybill audit …`: evidence for people who need not trust this program. */
export function addAuditCommands(program: Command, env: Environment): void {
  const audit = program
    .command('audit')
    .description('export, check and sign the audit trail (docs/audit/walkthrough.md)');

  asking(audit.command('export'))
    .description('write a bundle: entries, proofs, checkpoints and public keys, to be checked without Waybill')
    .argument('<file>', 'the file to write; it must not exist')
    .option('--from <time>', 'only what was recorded from then on, RFC 3339')
    .option('--to <time>', 'only what was recorded before then, RFC 3339')
    .action((file: string, options: ServedOptions & { from?: string; to?: string }) =>
      exportBundle(resolve(file), options, env),
    );

  asking(audit.command('verify'))
    .description(
      'check a bundle or, without one, have a running Waybill check its whole trail; ends with 1 if it fails',
    )
    .argument('[file]', 'a bundle')
    .option('--offline', 'a bundle is always checked offline; this makes sure that there is one')
    .option('--trust <key...>', 'verifier keys known from elsewhere; every checkpoint must be signed by one of them')
    .option('--checkpoints <file>', 'checkpoints known from elsewhere; the entries must agree with them')
    .action(async (file: string | undefined, options: VerifyOptions) => {
      if (file === undefined && options.offline) throw new Error('Which bundle? waybill audit verify FILE --offline');
      if (file === undefined) await verifyServer(options, env);
      else await verifyFile(resolve(file), options);
    });

  asking(audit.command('checkpoint'))
    .description('have everything recorded until now signed, and print the checkpoint')
    .option('--newest', 'print the newest one there is instead')
    .action(async (options: ServedOptions & { newest?: boolean }) => {
      const ask = await apiOf(env, options);
      const query = options.newest
        ? '{ made: auditCheckpoint { treeSize rootHash position signedAt note } }'
        : 'mutation { made: makeAuditCheckpoint { treeSize rootHash position signedAt note } }';
      const { made } = await ask<{ made: Checkpoint }>(query);
      say(options.json ? JSON.stringify(made) : made.note.trimEnd());
    });

  audit
    .command('rotate-key')
    .description('make the next signing key in the data directory; the next checkpoint is signed with both')
    .option('--json', 'print the result as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const config = loadConfig(env, { cwd: process.cwd() });
      const file = resolve(config.dataDir, config.audit.keyFile ?? 'audit-key.pem');
      await new SigningKeys(file, writeDurably).rotate();
      const made = { key: `${file}.next`, publicKeys: published(config) };
      if (json) say(JSON.stringify(made));
      else say(`${made.key} signs from the next checkpoint on; both public keys are in ${made.publicKeys}.`);
    });
}

const published = ({ dataDir, audit }: ReturnType<typeof loadConfig>): string =>
  join(resolve(dataDir, audit.folder ?? 'audit'), 'public-keys.txt');
