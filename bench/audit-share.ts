import pg from 'pg';
import { rounded } from './clock.js';
import { cpuMicros } from './process-stats.js';
import { type Busy, busyIn, ofEachStack, type ThreadProfile, WHOLE_RUN } from './profiles.js';

/** What the audit trail costs (decision 0025): its part of what the threads of Waybill and the connections to PostgreSQL use. */
export interface AuditShare {
  /** Of the CPU time of all threads that V8's profiler saw, in percent. */
  readonly profilePercent: number;
  /** CPU time of the audit's connection for one delivery, and of all connections. */
  readonly postgresMicros: number;
  readonly postgresAllMicros: number;
}

/**
 * @param part of the path of what is counted, with all that it calls
 * @param cpuMicros of each thread in the whole run
 */
export function profiledPercent(
  profiles: readonly ThreadProfile[],
  part: string,
  cpuMicros: readonly number[],
): number {
  let [own, all] = [0, 0];
  const threads = busyIn(profiles, { ...WHOLE_RUN, cpuMicros });
  for (const [index, profile] of profiles.entries()) {
    const isOwn = ofEachStack(profile, (frames) => [...frames].some(({ url }) => url.includes(part)));
    const { samples, worth } = threads[index] as Busy;
    for (const sample of samples) {
      all += sample.micros * worth;
      if (isOwn(sample)) own += sample.micros * worth;
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
