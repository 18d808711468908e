import type { Organizations } from '../domain/vocabulary.js';
import type { InboxRow } from '../projections/inbox.js';
import type { InboxOwner } from '../projections/inbox-query.js';
import type { ReadSide } from '../projections/read-side.js';
import { ApiError, badInput } from './errors.js';
import type { InboxChange, InboxLive } from './inbox-live.js';
import { type LogHead, refusing } from './read-models.js';
import { ReadYourWrites } from './read-your-writes.js';
import type { RequestContext } from './request-context.js';
import type { SealedRows } from './sealed-rows.js';
import { streamOf } from './stream-of.js';

/** Messages that are read at once when somebody comes back. */
const PAGE = 200;
const CURSOR = /^\d{1,19}$/;

/**
 * Inboxes as their owners see them. A cursor is the position in the log up to which its holder has seen every change:
 * from there queries and subscriptions go on, whatever instance answers, and nothing is told twice or left out.
 */
export class InboxReads {
  readonly #reads: ReadSide;
  readonly #rows: SealedRows;
  readonly #live: InboxLive;
  readonly #head: () => Promise<bigint>;
  readonly #patienceMs: number;
  readonly #writes: ReadYourWrites;

  constructor(reads: ReadSide, rows: SealedRows, live: InboxLive, log: LogHead, patienceMs: number) {
    this.#reads = reads;
    this.#rows = rows;
    this.#live = live;
    this.#head = log.head;
    this.#patienceMs = patienceMs;
    this.#writes = new ReadYourWrites(log.atStart);
  }

  wrote({ principal }: RequestContext, position: bigint | undefined): void {
    this.#writes.wrote(principal, position);
  }

  /** The newest messages, and the cursor of all changes they show. */
  async newest(context: RequestContext, owner: InboxOwner, first: number, before: bigint | undefined) {
    await this.#reads.projections.waitFor(this.#writes.newestOf(context.principal), this.#patienceMs);
    // Before the rows are read: what they show beyond it is told again.
    const cursor = this.#reads.projections.position('inbox');
    const rows = await refusing(this.#reads.inbox.newest(owner, first, before));
    return this.#page(rows, first, String(cursor), owner);
  }

  /** What is held of a person, whoever asks: expired messages too. */
  async held(
    context: RequestContext,
    organizations: Organizations,
    person: string,
    first: number,
    before: bigint | undefined,
  ) {
    await this.#reads.projections.waitFor(this.#writes.newestOf(context.principal), this.#patienceMs);
    const rows = await refusing(this.#reads.inbox.held(organizations, person, first, before));
    return { messages: await this.#presented(rows.slice(0, first)), hasMore: rows.length > first };
  }

  async changed(context: RequestContext, owner: InboxOwner, first: number, after: string) {
    await this.#reads.projections.waitFor(this.#writes.newestOf(context.principal), this.#patienceMs);
    const rows = await refusing(this.#reads.inbox.changed(owner, first, positionOf(after)));
    return this.#page(rows, first, rows.slice(0, first).at(-1)?.position ?? after, owner);
  }

  /** What has changed since the cursor, then everything that changes; without a cursor, from now on. */
  changes(owner: InboxOwner, after: string | undefined) {
    const queue = this.#live.listen(owner);
    const since = after === undefined ? undefined : this.#since(owner, positionOf(after));
    let seen = 0n;
    const isNews = ({ position }: InboxChange) => position > seen;
    const next = async (): Promise<IteratorResult<readonly InboxRow[], undefined>> => {
      const page = await since?.next();
      if (page && !page.done) {
        seen = BigInt(page.value.at(-1)?.position ?? seen);
        return page;
      }
      const { done, value } = await queue.next();
      return done ? { done, value } : { value: await this.#rowsOf(owner, value.filter(isNews)) };
    };
    const source: AsyncIterator<readonly InboxRow[]> = {
      next: () =>
        next().catch(async (error) => {
          await queue.return();
          throw error;
        }),
      return: async () => {
        await queue.return();
        return { done: true, value: undefined };
      },
    };
    return streamOf(source, async (rows) =>
      (await this.#presented(rows)).map((message) => ({ inboxChanged: message })),
    );
  }

  /** Pages of changes up to where the log ends when the first one is asked for. */
  async *#since(owner: InboxOwner, after: bigint): AsyncGenerator<readonly InboxRow[]> {
    if (!(await this.#reads.projections.waitFor(await this.#head(), this.#patienceMs))) throw behind();
    for (let from = after; ; ) {
      const rows = await this.#reads.inbox.changed(owner, PAGE, from);
      if (rows.length > 0) yield rows.slice(0, PAGE);
      if (rows.length <= PAGE) return;
      from = BigInt((rows[PAGE - 1] as InboxRow).position);
    }
  }

  /** In the order of the log, each with the position of the change that is told of. */
  async #rowsOf({ organizationId, person }: InboxOwner, changes: readonly InboxChange[]): Promise<InboxRow[]> {
    const ordered = [...changes].sort((one, other) => (one.position < other.position ? -1 : 1));
    const newest = ordered.at(-1)?.position ?? 0n;
    // To pass over what cannot be shown yet would be to lose it: the next cursor is beyond it.
    if (!(await this.#reads.projections.waitFor(newest, this.#patienceMs))) throw behind();
    const ids = ordered.map(({ id }) => id);
    const rows = await this.#reads.inbox.some({ organizationId, person }, ids);
    const byId = new Map(rows.map((row) => [row.id, row]));
    return ordered.flatMap(({ id, position }) => {
      const row = byId.get(id);
      return row ? [{ ...row, position: String(position) }] : [];
    });
  }

  async #page(rows: readonly InboxRow[], first: number, cursor: string, owner: InboxOwner) {
    const messages = await this.#presented(rows.slice(0, first));
    return { messages, cursor, hasMore: rows.length > first, unread: () => this.#reads.inbox.unread(owner) };
  }

  async #presented(rows: readonly InboxRow[]) {
    return (await this.#rows.inbox(rows)).map(({ content, position, person: _, ...row }) => ({
      ...row,
      ...{ title: content.title ?? null, text: content.text ?? null, data: content.data ?? null },
      cursor: position,
    }));
  }
}

const behind = () => new ApiError('UNAVAILABLE', 'the read models are behind: subscribe again with your last cursor');

function positionOf(cursor: string): bigint {
  if (CURSOR.test(cursor)) return BigInt(cursor);
  throw badInput([{ path: 'after', problem: 'is not a cursor of an inbox' }]);
}
