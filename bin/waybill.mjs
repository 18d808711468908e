#!/usr/bin/env -S node --max-semi-space-size=64 --no-parallel-scavenge --no-allocation-site-pretenuring
/**
 * The `waybill` command. In a checkout it builds what is missing or older than its source, because npm is told to run
 * no scripts of its own; a packaged Waybill has only dist/ and starts at once.
 *
 * Most of what a delivery allocates lives for milliseconds; with room for it (64 MiB), and without helpers that wait for each
 * other, a fifth of the CPU time is saved. `npm start` and the image name the same flags.
 *
 * Nothing is imported statically, so that an old Node reaches the line that tells what is wrong.
 */
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  fail(`Waybill needs Node.js 20.19 or newer; this is ${process.versions.node}.`);
}

// Before anything is imported: graphql and others check their arguments again and again where this is not said.
process.env.NODE_ENV ??= 'production';

try {
  await buildFromSource();
  const { main } = await import('../dist/cli/main.js');
  await main(process.argv);
} catch (error) {
  const isDebugging = ['debug', 'trace'].includes(process.env.WAYBILL_LOG_LEVEL ?? '');
  fail(isDebugging && error instanceof Error ? error.stack : error instanceof Error ? error.message : String(error));
}

async function buildFromSource() {
  const { existsSync } = await import('node:fs');
  const here = (path) => existsSync(new URL(path, import.meta.url));
  const canBuild = here('../src') && here('../scripts/build.mjs') && here('../node_modules/@swc/core');
  if (canBuild) {
    const { buildIfStale } = await import('../scripts/build.mjs');
    await buildIfStale();
  } else if (!here('../dist/cli/main.js')) {
    throw new Error('This package is incomplete: it has neither dist/ nor what is needed to build it. Run `npm ci`.');
  }
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}
