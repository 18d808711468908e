import { hash } from 'node:crypto';
import type { Channel } from '../domain/vocabulary.js';

/** What the channels' addresses are of. A URL, a folder or a bucket is nobody. */
const KINDS: Partial<Record<Channel, 'email' | 'phone' | 'device' | 'handle'>> = {
  EMAIL: 'email',
  SMS: 'phone',
  VOICE: 'phone',
  PUSH: 'device',
  WEB_PUSH: 'device',
  IN_APP: 'handle',
  SLACK: 'handle',
  TEAMS: 'handle',
};

const SECRET_BYTES = 32;
const BLOCK_BYTES = 64;

/**
 * Names for data subjects, by HMAC-SHA-256 (RFC 2104) of their address under a secret of the installation: the same
 * address gets the same name, so it can be searched for, and without the secret no list of addresses leads back to one.
 * An organization's names mean nothing in another one.
 */
export class Subjects {
  readonly #inner: Buffer;
  readonly #outer: Buffer;

  /** @param secret 32 bytes */
  constructor(secret: Buffer) {
    if (secret.length !== SECRET_BYTES) throw new Error(`the secret must have ${SECRET_BYTES} bytes`);
    const block = Buffer.alloc(BLOCK_BYTES);
    secret.copy(block);
    this.#inner = Buffer.from(block.map((byte) => byte ^ 0x36));
    this.#outer = Buffer.from(block.map((byte) => byte ^ 0x5c));
  }

  person(organizationId: string, channel: Channel, address: string): string | undefined {
    const kind = KINDS[channel];
    if (!kind) return undefined;
    return `person:${this.#hmac(`person\n${organizationId}\n${kind}\n${normalized(kind, address)}`)}`;
  }

  group(persons: readonly string[]): string {
    return `group:${this.#hmac(`group\n${persons.join('\n')}`)}`;
  }

  digest(text: string): string {
    return this.#hmac(`digest\n${text}`);
  }

  /** createHmac takes three times as long. @returns 128 bits in base64url: enough that no two ever meet */
  #hmac(text: string): string {
    const inner = hash('sha256', Buffer.concat([this.#inner, Buffer.from(text)]), 'buffer');
    return hash('sha256', Buffer.concat([this.#outer, inner]), 'buffer').toString('base64url', 0, 16);
  }
}

/** Two ways to write one address are one person; upper and lower case of a mailbox are, wherever mail is read today. */
function normalized(kind: string, address: string): string {
  const text = address.normalize('NFKC').trim();
  if (kind === 'email') return text.toLowerCase();
  if (kind === 'device') return endpointIn(text) ?? text;
  return kind === 'phone' ? text.replace(/[^+\d]/g, '') : text;
}

/** A subscription of a browser is JSON, which can be written in many ways; its URL is there once. */
function endpointIn(text: string): string | undefined {
  if (!text.startsWith('{')) return undefined;
  try {
    const { endpoint } = JSON.parse(text) as { endpoint?: unknown };
    return typeof endpoint === 'string' ? endpoint : undefined;
  } catch {
    return undefined;
  }
}
