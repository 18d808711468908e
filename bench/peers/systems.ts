import { readFileSync } from 'node:fs';
import type { BenchReceiver } from '../receiver.js';
import type { Contestant } from './contestant.js';
import { startPeer } from './peer-process.js';
import type { PeersPostgres } from './postgres.js';
import { type Fsync, startRedis } from './redis.js';
import { startWaybillContestant } from './waybill.js';

interface PeerSystem {
  readonly file: string;
  /** As package.json has it; the hand-written one has none. */
  readonly dependency?: string;
  /** Where it keeps its jobs: a fresh database of one server, or a fresh Redis that forces its log to the disk so often. */
  readonly store: 'postgres' | Fsync;
}

/** In the order in which they run and are shown. */
const PEERS = {
  'hand-written': { file: './hand-written.ts', store: 'postgres' },
  'graphile-worker': { file: './graphile-worker.ts', dependency: 'graphile-worker', store: 'postgres' },
  'pg-boss-12': { file: './pg-boss-12.ts', dependency: 'pg-boss-12', store: 'postgres' },
  'pg-boss-10': { file: './pg-boss-10.ts', dependency: 'pg-boss', store: 'postgres' },
  'bullmq-everysec': { file: './bullmq.ts', dependency: 'bullmq', store: 'everysec' },
  'bullmq-always': { file: './bullmq.ts', dependency: 'bullmq', store: 'always' },
} satisfies Record<string, PeerSystem>;

export type Name = 'waybill' | keyof typeof PEERS;
export const NAMES = ['waybill', ...Object.keys(PEERS)] as Name[];

const storeOf = (name: Name): PeerSystem['store'] | undefined => (name === 'waybill' ? undefined : PEERS[name].store);
export const needsPostgres = (name: Name): boolean => storeOf(name) === 'postgres';
export const needsRedis = (name: Name): boolean => storeOf(name) === 'everysec' || storeOf(name) === 'always';

/** The servers that the chosen ones need; undefined is one that nobody chosen needs. */
export interface Servers {
  readonly postgres: PeersPostgres | undefined;
  readonly redisVersion: string | undefined;
}

/** Starts one in a new process with an empty store. */
export async function start(name: Name, { postgres }: Servers, receiver: BenchReceiver): Promise<Contestant> {
  if (name === 'waybill') return startWaybillContestant(receiver);
  const { file, store }: PeerSystem = PEERS[name];
  if (store !== 'postgres') return startPeer(file, await startRedis(store), receiver);
  if (!postgres) throw new Error(`${name} needs PostgreSQL`);
  return startPeer(file, await postgres.freshDatabase(), receiver);
}

/** Name and version of a system and of what it keeps its jobs in. */
export function title(name: Name, { postgres, redisVersion }: Servers): string {
  if (name === 'waybill') return 'Waybill';
  const { dependency, store }: PeerSystem = PEERS[name];
  const own = dependency === undefined ? 'hand-written batches' : `${packageOf(dependency)} ${versionOf(dependency)}`;
  return store === 'postgres'
    ? `${own} (PostgreSQL ${postgres?.version})`
    : `${own} (Redis ${redisVersion}, appendfsync ${store})`;
}

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
/** `1.2.3`, or `npm:package@1.2.3` where one package is there in two versions. */
const pinned = (dependency: string): string => manifest.devDependencies[dependency];
const packageOf = (dependency: string) => /^npm:(.+)@/.exec(pinned(dependency))?.[1] ?? dependency;
const versionOf = (dependency: string) => pinned(dependency).replace(/^npm:.+@/, '');
