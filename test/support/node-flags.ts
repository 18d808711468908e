import { readFileSync } from 'node:fs';

export type StartScript = 'start' | 'start:lean';

const PACKAGE = new URL('../../package.json', import.meta.url);

/** What node itself is told by `npm start` or `npm run start:lean`. */
export function nodeFlags(script: StartScript): string[] {
  const { scripts } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { scripts: Record<StartScript, string> };
  return scripts[script].split(' ').filter((word) => word.startsWith('--'));
}
