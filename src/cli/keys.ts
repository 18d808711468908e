import type { Command } from 'commander';
import type { Environment } from '../platform/config.js';

interface KeysOptions {
  readonly json?: boolean;
}

/** `waybill keys …`: the keys that the keys of personal data are wrapped with. */
export function addKeysCommands(program: Command, env: Environment): void {
  const keys = program.command('keys').description('look at and rotate the keys that protect personal data');
  const command = (name: string, description: string) =>
    keys.command(name).description(description).option('--json', 'print the result as JSON');
  command('list', 'the versions of the key ring, and how many keys each protects; Waybill may be running').action(
    async ({ json = false }: KeysOptions) => {
      const { listKeys } = await import('./key-rotation.js');
      await listKeys(env, json);
    },
  );
  command(
    'rotate',
    'make a new version of the key ring and wrap all keys with it, no event is touched; Waybill may be running',
  ).action(async ({ json = false }: KeysOptions) => {
    const { rotateKeys } = await import('./key-rotation.js');
    await rotateKeys(env, json);
  });
}
