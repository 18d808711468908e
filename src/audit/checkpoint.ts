import type { Instant } from '../domain/vocabulary.js';
import { HASH_BYTES } from './merkle.js';
import { MalformedNote, type Note, parseNote, type Signer, signNote } from './signed-note.js';

/**
 * A statement of where the audit trail stood: C2SP's tlog-checkpoint (https://c2sp.org/tlog-checkpoint), a signed note of
 *
 *     waybill.log/<id of the event log>
 *     <entries>
 *     <root of the Merkle tree, base64>
 *     position <log position of the newest entry>
 *     time <when it was signed, RFC 3339>
 *     chain <linear hash chain after the newest entry, base64>
 *     previous <entries at the checkpoint before this one, 0 if it is the first>
 *
 * The last four are extension lines, which other tools pass over.
 */
export interface Checkpoint {
  readonly origin: string;
  readonly size: number;
  readonly root: Buffer;
  readonly position: bigint;
  readonly time: Instant;
  readonly chain: Buffer;
  readonly previous: number;
}

export interface SignedCheckpoint extends Checkpoint {
  /** The whole note, as published. */
  readonly note: string;
  readonly parsed: Note;
}

/** Also the name of the keys that sign for this log, as the format asks. */
export const originOf = (logId: string): string => `waybill.log/${logId}`;

export function signCheckpoint(checkpoint: Checkpoint, signers: readonly Signer[]): string {
  const { origin, size, root, position, time, chain, previous } = checkpoint;
  const lines = [origin, size, root.toString('base64'), `position ${position}`, `time ${time}`];
  return signNote(`${lines.join('\n')}\nchain ${chain.toString('base64')}\nprevious ${previous}\n`, signers);
}

/** @throws MalformedNote; signatures are for the caller to check */
export function parseCheckpoint(note: string): SignedCheckpoint {
  const parsed = parseNote(note);
  const [, origin, size, root, position, time, chain, previous] = FORM.exec(parsed.text) ?? [];
  if (origin === undefined || root === undefined || time === undefined || chain === undefined)
    throw new MalformedNote('is not a checkpoint');
  return {
    ...{ origin, size: Number(size), root: hashOf(root), position: BigInt(position ?? 0), time, chain: hashOf(chain) },
    ...{ previous: Number(previous), note, parsed },
  };
}

const FORM =
  /^(\S+)\n(0|[1-9]\d{0,14})\n(\S+)\nposition (0|[1-9]\d{0,18})\ntime (\S+)\nchain (\S+)\nprevious (0|[1-9]\d{0,14})\n$/;

function hashOf(base64: string): Buffer {
  const hash = Buffer.from(base64, 'base64');
  if (hash.length !== HASH_BYTES || hash.toString('base64') !== base64)
    throw new MalformedNote('has something else in place of a hash');
  return hash;
}
