import { randomBytes } from 'node:crypto';
import { chmod } from 'node:fs/promises';
import { readIfPresent, writeDurably } from './data-directory.js';

/**
 * The local key ring: the keys that all other keys are wrapped with. Whoever has this file and the database can read
 * everything, and who has lost it can read nothing. Backups of log and database are of no use without it, nor is it
 * without them: keep a copy of it apart from theirs.
 *
 *     {"format":1,"keys":[{"version":1,"created":"2026-11-21T10:00:00.000Z","key":"<32 bytes in base64>"}]}
 */

export interface RingKey {
  readonly version: number;
  /** RFC 3339, UTC. */
  readonly created: string;
  readonly key: Buffer;
}

const KEY_BYTES = 32;

/** @returns undefined when there is no such file @throws Error, one line, when it is damaged */
export async function readKeyRing(file: string): Promise<RingKey[] | undefined> {
  const text = await readIfPresent(file);
  if (text === undefined) return undefined;
  // Someone may have restored it from a backup that knows no modes.
  await chmod(file, 0o600).catch(() => undefined);
  return parseKeyRing(text, file);
}

/** @param name where the text is from, for errors; they never repeat the text */
export function parseKeyRing(text: string, name: string): RingKey[] {
  let keys: RingKey[] | undefined;
  try {
    const ring = JSON.parse(text) as { format?: unknown; keys?: { version: number; created: string; key: string }[] };
    if (ring.format === 1)
      keys = ring.keys?.map(({ version, created, key }) => ({ version, created, key: Buffer.from(key, 'base64') }));
  } catch {
    keys = undefined;
  }
  const isWhole =
    keys !== undefined &&
    keys.length > 0 &&
    new Set(keys.map(({ version }) => version)).size === keys.length &&
    keys.every(({ version, key }) => Number.isInteger(version) && version > 0 && key.length === KEY_BYTES);
  if (!keys || !isWhole) throw new Error(`${name} is no key ring: put back the one it was, or a copy of it`);
  return keys;
}

/** Adds a new version, or makes the first one. */
export async function extendKeyRing(file: string, before: readonly RingKey[]): Promise<RingKey[]> {
  const version = Math.max(0, ...before.map((key) => key.version)) + 1;
  const added = { version, created: new Date().toISOString(), key: randomBytes(KEY_BYTES) };
  return await replaceKeyRing(file, [...before, added]);
}

export async function replaceKeyRing(file: string, keys: readonly RingKey[]): Promise<RingKey[]> {
  const rows = keys.map(({ version, created, key }) => ({ version, created, key: key.toString('base64') }));
  await writeDurably(file, `${JSON.stringify({ format: 1, keys: rows })}\n`, 0o600);
  return [...keys];
}
