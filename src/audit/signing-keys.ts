import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, rename, stat } from 'node:fs/promises';
import { type Signer, signerOf } from './signed-note.js';

/** Writes a whole file or nothing. */
export type WriteFile = (file: string, content: string, mode: number) => Promise<void>;

const OTHERS = 0o077;

/**
 * The private key that signs checkpoints: Ed25519, PKCS #8 in PEM, in a file that only its owner may read. It is made
 * when there is none. While a new one waits beside it (`<file>.next`), both sign the next checkpoint, which ties the new
 * key to the old one; after that the new one is the key.
 */
export class SigningKeys {
  readonly #file: string;
  readonly #write: WriteFile;

  constructor(file: string, write: WriteFile) {
    this.#file = file;
    this.#write = write;
  }

  /** The key and, during a rotation, the next one. @throws Error, one line, when a file cannot be used */
  async signers(origin: string): Promise<Signer[]> {
    const current = (await this.#read(this.#file)) ?? (await this.#make(this.#file));
    const next = await this.#read(this.#next);
    return [current, ...(next ? [next] : [])].map((key) => signerOf(origin, key));
  }

  /** Makes the next key, unless one waits already; the next checkpoint is signed with both. */
  async rotate(): Promise<void> {
    if (!(await this.#read(this.#next))) await this.#make(this.#next);
  }

  /** To be called once a checkpoint with both signatures is kept. */
  async rotated(): Promise<void> {
    await rename(this.#next, this.#file);
  }

  get #next(): string {
    return `${this.#file}.next`;
  }

  async #make(file: string): Promise<KeyObject> {
    const { privateKey } = generateKeyPairSync('ed25519');
    await this.#write(file, privateKey.export({ format: 'pem', type: 'pkcs8' }) as string, 0o600);
    return privateKey;
  }

  async #read(file: string): Promise<KeyObject | undefined> {
    let pem: string;
    try {
      if (((await stat(file)).mode & OTHERS) !== 0)
        throw new Error(`the audit key ${file} can be read by others: chmod 600 it`);
      pem = await readFile(file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    const key = parsed(pem);
    if (key?.asymmetricKeyType !== 'ed25519') throw new Error(`the audit key ${file} is not an Ed25519 key in PEM`);
    return key;
  }
}

/** What the parser has to say could quote the file. */
function parsed(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
}
