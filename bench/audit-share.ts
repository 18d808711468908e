import pg from 'pg';
import { rounded } from './clock.js';
import { cpuMicros } from './process-stats.js';
import { ofEachStack, type ThreadProfile } from './profiles.js';

/** What the audit trail costs (decision 0025): its part of what the threads of Waybill and the connections to PostgreSQL use. */
export interface AuditShare {
  /** Of the CPU time that V8's profiler saw in all threads, in percent; what only waits is left out. */
  readonly profilePercent: number;
  /** CPU time of the audit's connection for one delivery, and of all connections. */
  readonly postgresMicros: number;
  readonly postgresAllMicros: number;
}

/** @param part of the path of what is counted, with all that it calls */
export function profiledPercent(profiles: readonly ThreadProfile[], part: string): number {
  let [own, all] = [0, 0];
  for (const profile of profiles) {
    const isOwn = ofEachStack(profile, (frames) => [...frames].some(({ url }) => url.includes(part)));
    for (const sample of profile.samples) {
      if (sample.isIdle) continue;
      all += sample.micros;
      if (isOwn(sample)) own += sample.micros;
    }
  }
  return rounded((100 * own) / Math.max(all, 1), 1);
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
