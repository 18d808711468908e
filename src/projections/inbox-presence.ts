import type { Pool } from 'pg';
import type { InboxOwner } from './inbox-query.js';

const BEAT_MS = 10_000;
/** Three beats: a server that has died is believed in no longer than that. */
const GONE_AFTER = "interval '30 seconds'";

/**
 * Who is connected, over all instances: each says every 10 s who is connected to it, in rows that count for 30 s. Nothing
 * rests on it; what is lost with a crash is told again by whoever connects anew.
 */
export class InboxPresence {
  readonly #pool: Pick<Pool, 'query'>;
  readonly #instanceId: string;
  /** By person; bounded by whoever counts connections. */
  readonly #here = new Map<string, { readonly owner: InboxOwner; connections: number }>();
  /** What is to be told of next, each person once. */
  readonly #changed = new Map<string, InboxOwner>();
  readonly #timer: NodeJS.Timeout;
  #telling: Promise<void> | undefined;

  constructor(pool: Pick<Pool, 'query'>, instanceId: string) {
    this.#pool = pool;
    this.#instanceId = instanceId;
    this.#timer = setInterval(() => this.#tell([...this.#here.values()].map(({ owner }) => owner)), BEAT_MS).unref();
  }

  /** @returns to be called once, when that connection has ended */
  connected(owner: InboxOwner): () => void {
    const known = this.#here.get(owner.person);
    if (known) known.connections += 1;
    else {
      this.#here.set(owner.person, { owner, connections: 1 });
      this.#tell([owner]);
    }
    return () => {
      const left = this.#here.get(owner.person);
      if (!left) return;
      left.connections -= 1;
      if (left.connections > 0) return;
      this.#here.delete(owner.person);
      this.#tell([owner]);
    };
  }

  /** Which of these persons are connected to any instance. */
  async among(persons: readonly string[]): Promise<ReadonlySet<string>> {
    await this.#telling;
    const { rows } = await this.#pool.query<{ person: string }>(
      `select person from inbox_presence where person = any($1) and seen_at > now() - ${GONE_AFTER}`,
      [persons],
    );
    return new Set(rows.map(({ person }) => person));
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    const gone = [...this.#here.values()].map(({ owner }) => owner);
    this.#here.clear();
    this.#tell(gone);
    await this.#telling;
  }

  #tell(owners: readonly InboxOwner[]): void {
    for (const owner of owners) this.#changed.set(owner.person, owner);
    if (owners.length > 0)
      // What fails is told again with the next beat, and an old row counts for nothing.
      this.#telling ??= this.#tellAll()
        .catch(() => undefined)
        .finally(() => {
          this.#telling = undefined;
        });
  }

  /** One statement after the other: coming and going must not overtake each other. */
  async #tellAll(): Promise<void> {
    while (this.#changed.size > 0) {
      const changed = [...this.#changed.values()];
      this.#changed.clear();
      const here = changed.filter(({ person }) => this.#here.has(person));
      const gone = changed.filter(({ person }) => !this.#here.has(person)).map(({ person }) => person);
      await this.#pool.query(
        `insert into inbox_presence (organization_id, person, instance_id, seen_at)
         select organization, person, $3, now() from unnest($1::text[], $2::text[]) as u(organization, person)
         on conflict (person, instance_id) do update set seen_at = excluded.seen_at`,
        [here.map(({ organizationId }) => organizationId), here.map(({ person }) => person), this.#instanceId],
      );
      await this.#pool.query(
        `delete from inbox_presence
         where person = any($1) and instance_id = $2 or seen_at < now() - ${GONE_AFTER}`,
        [gone, this.#instanceId],
      );
    }
  }
}
