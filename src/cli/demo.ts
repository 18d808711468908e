import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Runs the demo of a checkout. @throws Error, one line, where there is none, or it fails */
export async function demo(options: readonly string[]): Promise<void> {
  const root = new URL('../../', import.meta.url);
  const [entry, loader] = ['demo/main.ts', 'scripts/ts-loader.mjs'].map((path) => new URL(path, root));
  if (!entry || !loader || !existsSync(entry))
    throw new Error('The demo is in the repository, not in the package: clone it and run `npm run demo`.');
  const child = spawn(process.execPath, ['--import', loader.href, fileURLToPath(entry), ...options], {
    stdio: 'inherit',
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error('The demo did not end well.');
}
