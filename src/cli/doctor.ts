import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import pg from 'pg';
import { contentStoreOf } from '../app/contents.js';
import { openEventReader } from '../app/event-log.js';
import { ContentFiles } from '../event-store/content/content-files.js';
import { type Config, ConfigError, type Environment, loadConfig } from '../platform/config.js';
import { version } from '../platform/version.js';
import type { ServedOptions, ServerOptions } from './api.js';
import { say, size } from './log-output.js';

type State = 'ok' | 'warning' | 'problem';

interface Finding {
  readonly what: string;
  readonly state: State;
  readonly detail: string;
  /** What to do about it. */
  readonly remedy?: string;
}

const OLDEST_NODE = [20, 19] as const;
const OLDEST_POSTGRES = 14;
const LOW_DISK = 1024 ** 3;
const NO_DISK = 64 * 1024 ** 2;
const CLOCKS_APART_MS = 2_000;
const PATIENCE_MS = 5_000;
const OTHERS = 0o077;

const ok = (what: string, detail: string): Finding => ({ what, state: 'ok', detail });
const bad = (what: string, detail: string, remedy: string, state: State = 'problem'): Finding => ({
  ...{ what, state, detail, remedy },
});

/**
 * `waybill doctor`: whether everything that Waybill needs is there, and what to do if not. Changes nothing.
 *
 * @throws Error, one line, when there is a problem
 */
export async function doctor(env: Environment, { json, ...server }: ServedOptions): Promise<void> {
  const findings = await examine(env, server);
  if (json) say(JSON.stringify(findings));
  else for (const finding of findings) tell(finding);
  const problems = findings.filter(({ state }) => state === 'problem').length;
  if (problems > 0) throw new Error(`${problems} of ${findings.length} checks found a problem.`);
}

function tell({ what, state, detail, remedy }: Finding): void {
  say(`${state.padEnd(7)}  ${what}: ${detail}`);
  if (remedy !== undefined) say(`         → ${remedy}`);
}

async function examine(env: Environment, server: ServerOptions): Promise<Finding[]> {
  const findings = [node(), ok('waybill', version())];
  let config: Config;
  try {
    config = loadConfig(env, { cwd: process.cwd() });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [
      ...findings,
      ...error.problems.map(({ path, problem }) => bad('configuration', `${path} ${problem}`, `correct ${path}`)),
    ];
  }
  findings.push(
    ok('configuration', env.WAYBILL_CONFIG ? `${env.WAYBILL_CONFIG} and the environment` : 'from the environment'),
  );
  const checks = [
    folder(config),
    disk(config),
    secretFiles(config),
    database(config),
    eventStore(config),
    largeContents(config),
    running(config, env, server),
  ];
  return [...findings, ...(await Promise.all(checks)).flat()];
}

function node(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isNew = major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1]);
  if (isNew) return ok('node', process.versions.node);
  return bad('node', `${process.versions.node} is too old`, `install Node.js ${OLDEST_NODE.join('.')} or newer`);
}

async function folder({ dataDir }: Config): Promise<Finding> {
  try {
    await access(dataDir, constants.R_OK | constants.W_OK | constants.X_OK);
    return ok('data directory', `${dataDir} can be read and written`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return ok('data directory', `${dataDir} is made at the first start`);
    return bad(
      'data directory',
      `${dataDir} cannot be used (${code})`,
      'let the account that runs Waybill own it, or set WAYBILL_DATA',
    );
  }
}

async function disk({ dataDir }: Config): Promise<Finding> {
  const { bavail, bsize } = await statfs(await nearest(dataDir));
  const free = bavail * bsize;
  if (free >= LOW_DISK) return ok('disk', `${size(free)} free`);
  const remedy = 'make room: without it nothing can be recorded, and so nothing is accepted';
  return bad('disk', `only ${size(free)} free`, remedy, free < NO_DISK ? 'problem' : 'warning');
}

/** The folder itself or, before the first start, the one it will be made in. */
async function nearest(path: string): Promise<string> {
  const isThere = await stat(path).then(
    () => true,
    () => false,
  );
  return isThere ? path : await nearest(resolve(path, '..'));
}

async function secretFiles({ dataDir, audit }: Config): Promise<Finding[]> {
  const files = [join(dataDir, 'admin.key'), resolve(dataDir, audit.keyFile ?? 'audit-key.pem')];
  const findings = await Promise.all(
    files.map(async (file) => {
      const found = await stat(file).catch(() => undefined);
      if (!found) return [];
      if ((found.mode & OTHERS) === 0) return [ok('permissions', `${file} is its owner’s alone`)];
      return [bad('permissions', `others may read ${file}`, `chmod 600 ${file}`)];
    }),
  );
  return findings.flat();
}

async function database({ databaseUrl }: Config): Promise<Finding[]> {
  if (databaseUrl === undefined) return [ok('postgresql', 'embedded: started with Waybill')];
  const client = new pg.Client({
    connectionString: databaseUrl,
    connectionTimeoutMillis: PATIENCE_MS,
    query_timeout: PATIENCE_MS,
  });
  client.on('error', () => undefined);
  try {
    await client.connect();
    const asked = Date.now();
    const { rows } = await client.query<{ version: number; now: Date; may: boolean }>(
      `select current_setting('server_version_num')::integer / 10000 as version, clock_timestamp() as now,
         has_schema_privilege(current_schema(), 'create') as may`,
    );
    const [found] = rows;
    if (!found) return [];
    const skewMs = Math.round(found.now.getTime() - (asked + Date.now()) / 2);
    return [
      found.version >= OLDEST_POSTGRES
        ? ok('postgresql', `version ${found.version} answers`)
        : bad('postgresql', `version ${found.version} is too old`, `use ${OLDEST_POSTGRES} or newer`),
      found.may
        ? ok('postgresql', 'may make tables')
        : bad('postgresql', 'may not make tables', 'grant CREATE on the schema'),
      Math.abs(skewMs) < CLOCKS_APART_MS
        ? ok('clock', `within ${Math.abs(skewMs)} ms of the database's`)
        : bad(
            'clock',
            `${Math.abs(skewMs)} ms from the database's`,
            'run a time service (chrony, ntpd) on both',
            'warning',
          ),
    ];
  } catch (error) {
    // pg's own texts name hosts and roles, never the password.
    return [
      bad(
        'postgresql',
        (error as Error).message,
        'check DATABASE_URL, and that the server is up and lets this machine in',
      ),
    ];
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function eventStore({ eventStoreUrl, dataDir }: Config): Promise<Finding> {
  const path = join(dataDir, 'log');
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (eventStoreUrl === undefined && !isThere) return ok('event log', 'embedded: made at the first start');
  try {
    const reader = await openEventReader(eventStoreUrl === undefined ? { path } : { url: eventStoreUrl });
    try {
      return ok('event log', `answers, its newest event is at position ${await reader.head()}`);
    } finally {
      await reader.close();
    }
  } catch (error) {
    const remedy =
      eventStoreUrl === undefined
        ? '`waybill log verify` says more'
        : 'check EVENTSTORE_URL, and that the server is up';
    return bad('event log', (error as Error).message, remedy);
  }
}

/** Where they are, and whether this account can use it; whether they are this log's is found out at each start. */
async function largeContents(config: Config): Promise<Finding[]> {
  const what = 'large contents';
  const store = contentStoreOf(config);
  try {
    const mark = await store.readMark();
    if (store instanceof ContentFiles && mark !== undefined)
      await access(store.place, constants.R_OK | constants.W_OK | constants.X_OK);
    const found = ok(what, mark === undefined ? `${store.place}, empty so far` : `${store.place} can be read`);
    if (config.eventStoreUrl === undefined || config.content !== undefined) return [found];
    const remedy = 'set WAYBILL_CONTENT to a folder or bucket that all instances share, if there are several';
    return [bad(what, `${store.place} is seen by this instance alone`, remedy, 'warning')];
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return [
      bad(what, `${store.place} cannot be used (${code ?? message})`, 'check WAYBILL_CONTENT and who may use it'),
    ];
  }
}

async function running(config: Config, env: Environment, { url }: ServerOptions): Promise<Finding> {
  const base = url ?? (env.WAYBILL_URL || `http://${config.host}:${config.port}`);
  try {
    const response = await fetch(`${base}/ready`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    const { parts = {} } = (await response.json()) as { parts?: Record<string, string> };
    if (response.ok) return ok('server', `ready at ${base}`);
    const down = Object.entries(parts).filter(([, answer]) => answer !== 'up');
    return bad('server', `not ready at ${base}: ${down.map((part) => part.join(' ')).join(', ')}`, 'its log says more');
  } catch {
    return bad('server', `none answers at ${base}`, '`waybill serve` starts one; --url names another', 'warning');
  }
}
