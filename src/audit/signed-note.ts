import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';

/**
 * Texts with signatures below them that a person can read: the format of C2SP's signed-note
 * (https://c2sp.org/signed-note), with Ed25519, which the tools of transparency logs understand.
 *
 * A **verifier key** is `<name>+<key id, 8 hexadecimal digits>+<base64 of 0x01 ‖ public key>`.
 */

const ED25519 = 1;
const KEY_ID_BYTES = 4;
const SIGNATURE_BYTES = 64;
const PUBLIC_KEY_BYTES = 32;
/** What comes before the 32 bytes in the DER form of an Ed25519 public key, RFC 8410. */
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');

export interface Verifier {
  readonly name: string;
  readonly id: Buffer;
  readonly key: KeyObject;
  /** As it is published. */
  readonly text: string;
}

export interface Signer extends Verifier {
  readonly privateKey: KeyObject;
}

export interface Note {
  /** With the line feed at its end: what is signed. */
  readonly text: string;
  readonly signatures: readonly { readonly name: string; readonly id: Buffer; readonly signature: Buffer }[];
}

export class MalformedNote extends Error {
  override name = 'MalformedNote';
}

/** @param name without spaces and plus signs */
export function signerOf(name: string, privateKey: KeyObject): Signer {
  const der = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const publicKey = der.subarray(der.length - PUBLIC_KEY_BYTES);
  const typed = Buffer.concat([Buffer.from([ED25519]), publicKey]);
  const text = `${name}+${keyId(name, typed).toString('hex')}+${typed.toString('base64')}`;
  return { ...verifierOf(text), privateKey };
}

/** @throws MalformedNote when it is no verifier key, or its parts do not belong together */
export function verifierOf(text: string): Verifier {
  const [, name, id, base64] = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/.exec(text) ?? [];
  const typed = Buffer.from(base64 ?? '', 'base64');
  if (name === undefined || typed[0] !== ED25519 || typed.length !== 1 + PUBLIC_KEY_BYTES)
    throw new MalformedNote('is not a verifier key of Ed25519 (name+id+key)');
  if (typed.toString('base64') !== base64 || keyId(name, typed).toString('hex') !== id)
    throw new MalformedNote(`the verifier key ${name} is damaged: its id does not belong to it`);
  const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, typed.subarray(1)]), format: 'der', type: 'spki' });
  return { name, id: Buffer.from(id, 'hex'), key, text };
}

const keyId = (name: string, typedKey: Buffer): Buffer =>
  createHash('sha256').update(`${name}\n`).update(typedKey).digest().subarray(0, KEY_ID_BYTES);

/** @param text ends with a line feed and has no empty line */
export function signNote(text: string, signers: readonly Signer[]): string {
  const lines = signers.map(({ name, id, privateKey }) => {
    const signature = sign(null, Buffer.from(text), privateKey);
    return `— ${name} ${Buffer.concat([id, signature]).toString('base64')}\n`;
  });
  return `${text}\n${lines.join('')}`;
}

/** @throws MalformedNote */
export function parseNote(note: string): Note {
  const end = note.lastIndexOf('\n\n');
  if (end < 0 || !note.endsWith('\n')) throw new MalformedNote('has no signatures');
  const lines = note.slice(end + 2, -1).split('\n');
  const signatures = lines.map((line) => {
    const [, name, base64] = /^— ([^\s+]+) ([A-Za-z0-9+/=]+)$/.exec(line) ?? [];
    const bytes = Buffer.from(base64 ?? '', 'base64');
    // Bits that decoding ignores are no place to hide a change in.
    if (name === undefined || bytes.toString('base64') !== base64) throw new MalformedNote('has a malformed signature');
    if (bytes.length !== KEY_ID_BYTES + SIGNATURE_BYTES) throw new MalformedNote('has a signature of another kind');
    return { name, id: bytes.subarray(0, KEY_ID_BYTES), signature: bytes.subarray(KEY_ID_BYTES) };
  });
  return { text: note.slice(0, end + 1), signatures };
}

/**
 * Stricter than the format asks: every signature must be of a known key, so that no byte of a note can change unseen.
 *
 * @returns what is wrong; undefined when all signatures are good
 */
export function problemWith({ text, signatures }: Note, verifiers: readonly Verifier[]): string | undefined {
  for (const { name, id, signature } of signatures) {
    const verifier = verifiers.find((candidate) => candidate.name === name && candidate.id.equals(id));
    if (!verifier) return `is signed by an unknown key, ${name}+${id.toString('hex')}`;
    if (!verify(null, Buffer.from(text), verifier.key, signature))
      return `the signature of ${name}+${id.toString('hex')} does not match`;
  }
  return undefined;
}
