/**
 * Completes package-lock.json after an `npm install`:
 *
 *     node scripts/complete-lock.mjs
 *
 * npm leaves out of the lock what its registry did not have when asked, which with a mirror can be the packages for
 * other platforms (@biomejs/cli-darwin-arm64, …). `npm ci` then finds them missing and refuses to install anything. They
 * are named here as their parents ask for them, without a checksum, and are installed only where they fit.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const SYSTEMS = { darwin: 'darwin', linux: 'linux', win32: 'win32', windows: 'win32', android: 'android' };
const PROCESSORS = { arm64: 'arm64', x64: 'x64', ia32: 'ia32', ppc64: 'ppc64', s390x: 's390x', arm: 'arm' };

const file = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(file, 'utf8'));

for (const [path, parent] of Object.entries(lock.packages)) {
  if (path === '') continue;
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    if (lock.packages[`${path}/node_modules/${name}`] || lock.packages[`node_modules/${name}`]) continue;
    lock.packages[`node_modules/${name}`] = entry(name, version, parent);
    process.stdout.write(`added ${name}\n`);
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([one], [other]) => (one < other ? -1 : 1)));
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);

function entry(name, version, parent) {
  const parts = name.split(/[-/]/);
  const system = parts.map((part) => SYSTEMS[part]).find(Boolean);
  const processor = parts.map((part) => PROCESSORS[part]).find(Boolean);
  return {
    version: version.replace(/^[\^~]/, ''),
    ...(processor && { cpu: [processor] }),
    ...(parent.dev && { dev: true }),
    license: parent.license,
    optional: true,
    ...(system && { os: [system] }),
    ...(system === 'linux' && parts.includes('musl') && { libc: ['musl'] }),
    ...(system === 'linux' && parts.some((part) => part.startsWith('gnu')) && { libc: ['glibc'] }),
  };
}
