import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { cpuMicros } from './process-stats.js';

/** What the audit trail costs (decision 0025): its part of what the threads of Waybill and the connections to PostgreSQL use. */
export interface AuditShare {
  /** Of the CPU time that V8's profiler saw in all threads, in percent; what only waits is left out. */
  readonly profilePercent: number;
  /** CPU time of the audit's connection for one delivery, and of all connections. */
  readonly postgresMicros: number;
  readonly postgresAllMicros: number;
}

interface Profile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** @param folder holds the profiles of one run, which are written when it ends */
export async function profiledPercent(folder: string, part: string): Promise<number> {
  let [own, all] = [0, 0];
  for (const name of (await readdir(folder)).filter((file) => file.endsWith('.cpuprofile'))) {
    const { nodes, samples, timeDeltas } = JSON.parse(await readFile(join(folder, name), 'utf8')) as Profile;
    const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
    const known = new Map(nodes.map((node) => [node.id, node.callFrame]));
    const isOwn = new Map<number, boolean>();
    const ofPart = (id: number | undefined): boolean => {
      if (id === undefined) return false;
      const found = isOwn.get(id) ?? (known.get(id)?.url.includes(part) || ofPart(parents.get(id)));
      isOwn.set(id, found);
      return found;
    };
    for (const [index, id] of samples.entries()) {
      if (known.get(id)?.functionName === '(idle)') continue;
      const micros = timeDeltas[index] ?? 0;
      all += micros;
      if (ofPart(id)) own += micros;
    }
  }
  return Math.round((1_000 * own) / Math.max(all, 1)) / 10;
}

/** @returns a function that tells how many microseconds the connections of each application have used since */
export async function connectionMeter(url: string): Promise<() => Promise<ReadonlyMap<string, number>>> {
  const read = async () => {
    const client = new pg.Client(url);
    await client.connect();
    try {
      const { rows } = await client.query<{ pid: number; name: string }>(
        `select pid, application_name as name from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`,
      );
      return new Map(rows.map(({ pid, name }) => [pid, { name, micros: cpuMicros(pid) ?? 0 }]));
    } finally {
      await client.end();
    }
  };
  const before = await read();
  return async () => {
    const used = new Map<string, number>();
    for (const [pid, { name, micros }] of await read())
      used.set(name, (used.get(name) ?? 0) + micros - (before.get(pid)?.micros ?? 0));
    return used;
  };
}
