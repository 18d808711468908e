/**
 * Lets node run the TypeScript of demo/, bench/ and test/ as it is, with the packages a build needs anyway:
 *
 *     node --import ./scripts/ts-loader.mjs demo/main.ts
 *
 * Types are removed, not checked, and decorators are unknown: the product itself runs compiled (scripts/build.mjs).
 */
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

// The hooks live in a thread of their own, which loads this file once more.
if (isMainThread) {
  register(import.meta.url);
  process.setSourceMapsEnabled(true);
}

/** TypeScript names its neighbours by what they will compile to: `./peer.js` is `./peer.ts`. */
export async function resolve(specifier, context, next) {
  const isNeighbour = specifier.startsWith('.') && specifier.endsWith('.js') && context.parentURL?.endsWith('.ts');
  if (!isNeighbour) return next(specifier, context);
  return next(specifier.replace(/\.js$/, '.ts'), context).catch(() => next(specifier, context));
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const { transform } = await import('@swc/core');
  const filename = fileURLToPath(url);
  const { code } = await transform(await readFile(filename, 'utf8'), {
    ...{ filename, swcrc: false, configFile: false, sourceMaps: 'inline', module: { type: 'es6' } },
    jsc: { parser: { syntax: 'typescript' }, target: 'es2023' },
  });
  return { format: 'module', source: code, shortCircuit: true };
}
