import { parseCheckpoint, type SignedCheckpoint } from './checkpoint.js';
import { type Verifier, verifierOf } from './signed-note.js';
import type { Sql } from './store.js';

/** Whoever builds the tree listens here for being asked for a checkpoint. */
export const CHECKPOINT_WANTED = 'waybill_audit_checkpoint';

/** Keeps it, with the keys it can be checked with. The first for a size is the one that counts. */
export async function storeCheckpoint(
  sql: Sql,
  log: string,
  size: number,
  note: string,
  keys: readonly Verifier[],
): Promise<void> {
  await sql.query(
    `with known as (insert into audit_keys (verifier) select * from unnest($4::text[]) on conflict do nothing)
     insert into audit_checkpoints (log, size, note) values ($1, $2, $3) on conflict do nothing`,
    [log, size, note, keys.map(({ text }) => text)],
  );
}

/** @throws MalformedNote when somebody has changed it */
export async function newestCheckpoint(sql: Sql, log: string): Promise<SignedCheckpoint | undefined> {
  const { rows } = await sql.query<{ note: string }>(
    'select note from audit_checkpoints where log = $1 order by size desc limit 1',
    [log],
  );
  return rows[0] && parseCheckpoint(rows[0].note);
}

export interface StoredNote {
  readonly size: number;
  readonly note: string;
}

/** As they are stored, the smallest first. @param after exclusive @param upTo inclusive */
export async function readNotes(
  sql: Sql,
  log: string,
  { after, upTo, limit }: { readonly after: number; readonly upTo: number; readonly limit: number },
): Promise<StoredNote[]> {
  const { rows } = await sql.query<{ size: string; note: string }>(
    'select size, note from audit_checkpoints where log = $1 and size > $2 and size <= $3 order by size limit $4',
    [log, after, upTo, limit],
  );
  return rows.map(({ size, note }) => ({ size: Number(size), note }));
}

/** @throws MalformedNote when one has been changed */
export async function readVerifiers(sql: Sql): Promise<Verifier[]> {
  const { rows } = await sql.query<{ verifier: string }>('select verifier from audit_keys order by verifier');
  return rows.map(({ verifier }) => verifierOf(verifier));
}

export const wantCheckpoint = async (sql: Sql): Promise<void> => void (await sql.query(`notify ${CHECKPOINT_WANTED}`));
