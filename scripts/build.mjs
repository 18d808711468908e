/**
 * Compiles src/ to dist/ in about a second: TypeScript by swc (types are checked elsewhere, by `tsc --noEmit`), all
 * other files as they are. Runs by itself or, through buildIfStale, at the start of bin/waybill.mjs.
 *
 * The build happens in a folder of its own and is put in place by renaming, so that two processes building at once
 * cannot mix their files and outputs of deleted sources do not stay.
 */
import { createHash } from 'node:crypto';
import { cp, mkdir, readdir, readFile, realpath, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** The same as in vitest.config.ts. Nest needs both decorator options. */
const OPTIONS = {
  swcrc: false,
  configFile: false,
  sourceMaps: true,
  module: { type: 'es6' },
  jsc: {
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    target: 'es2023',
  },
};

/**
 * @param {{root?: string}} [options] root: the folder that holds src/ and dist/; default: this package
 * @returns {Promise<boolean>} whether there was something to build
 * @throws {Error} when a source does not compile, with its path, or dist/ cannot be written
 */
export async function buildIfStale({ root = ROOT } = {}) {
  const sources = await listFiles(join(root, 'src'));
  const stamp = await stampOf(join(root, 'src'), sources);
  const built = await readFile(join(root, 'dist', '.build-stamp'), 'utf8').catch(() => undefined);
  if (built === stamp) return false;

  const half = join(root, `dist.tmp-${process.pid}`);
  try {
    await compile(join(root, 'src'), sources, half);
    await writeFile(join(half, '.build-stamp'), stamp);
    await putInPlace(half, join(root, 'dist'));
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS'].includes(error.code)) throw error;
    throw new Error(`dist/ is out of date and ${root} cannot be written: run \`npm run build\` as its owner`);
  } finally {
    await rm(half, { recursive: true, force: true });
  }
  await removeAbandoned(root);
  return true;
}

/** Paths below a folder, relative to it, sorted. */
async function listFiles(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && !entry.name.endsWith('.d.ts'));
  return files.map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1)).sort();
}

/** A hash of all contents: a checkout or a copy changes times, and only contents change what comes out. */
async function stampOf(folder, files) {
  const hash = createHash('sha256').update(JSON.stringify(OPTIONS));
  const contents = await Promise.all(files.map((file) => readFile(join(folder, file))));
  for (const [index, file] of files.entries())
    hash.update(`\0${file}\0${contents[index].length}\0`).update(contents[index]);
  return hash.digest('hex');
}

async function compile(from, files, to) {
  const { transformFile } = await import('@swc/core');
  const folders = new Set(files.map((file) => dirname(join(to, file))));
  await mkdir(to, { recursive: true });
  for (const folder of folders) await mkdir(folder, { recursive: true });
  await Promise.all(
    files.map(async (file) => {
      if (!file.endsWith('.ts')) return cp(join(from, file), join(to, file));
      const { code, map } = await transformFile(join(from, file), OPTIONS).catch((error) => {
        throw new Error(`src/${file} does not compile: ${error.message}`);
      });
      const target = join(to, file.replace(/\.ts$/, '.js'));
      const name = target.slice(target.lastIndexOf('/') + 1);
      await writeFile(`${target}.map`, map ?? '');
      await writeFile(target, `${code}\n//# sourceMappingURL=${name}.map\n`);
    }),
  );
}

/** A folder cannot be renamed onto a full one, so the old one steps aside; a second builder may do the same meanwhile. */
async function putInPlace(half, dist) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await rename(half, dist);
    } catch (error) {
      if ((error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') || attempt >= 100) throw error;
    }
    const aside = `${dist}.old-${process.pid}-${attempt}`;
    await rename(dist, aside).catch((error) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await rm(aside, { recursive: true, force: true });
  }
}

/** What builders that were killed left behind. */
async function removeAbandoned(root) {
  for (const name of await readdir(root)) {
    const pid = /^dist\.(?:tmp|old)-(\d+)/.exec(name)?.[1];
    if (pid && !isAlive(Number(pid))) await rm(join(root, name), { recursive: true, force: true });
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

if (process.argv[1] && (await realpath(process.argv[1])) === fileURLToPath(import.meta.url)) {
  try {
    const started = performance.now();
    const built = await buildIfStale();
    console.log(built ? `Built dist/ in ${Math.round(performance.now() - started)} ms` : 'dist/ is up to date');
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
