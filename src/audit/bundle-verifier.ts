import { parseCheckpoint, type SignedCheckpoint } from './checkpoint.js';
import { HASH_BYTES, leafHash, nodeHash } from './merkle.js';
import { MalformedNote, problemWith, type Verifier, verifierOf } from './signed-note.js';
import { chained } from './tree-builder.js';

export interface BundleVerdict {
  readonly ok: boolean;
  readonly origin: string | null;
  readonly from: number | null;
  /** How many entries of the bundle were found to be right, from its first on. */
  readonly entries: number;
  /** Checkpoints whose signature and root were found to be right. */
  readonly checkpoints: number;
  /** Index in the whole trail, not in the bundle. */
  readonly firstBadIndex: number | null;
  readonly problem: string | null;
  /** Keys that have signed, as far as the bundle names them: to be compared with what is known from elsewhere. */
  readonly signedBy: readonly string[];
}

export interface BundleTrust {
  /** Verifier keys known from elsewhere: every checkpoint must be signed by one of them. Default: the bundle's own. */
  readonly keys?: readonly string[];
  /** Checkpoints known from elsewhere: entries of the bundle must agree with those that are about them. */
  readonly checkpoints?: readonly string[];
}

interface Header {
  readonly origin: string;
  readonly from: number;
  readonly to: number;
}

class Bad extends Error {
  constructor(
    readonly index: number,
    problem: string,
  ) {
    super(problem);
  }
}

/** Reads a bundle line by line, with the memory of one line, and needs nothing else. @param progress gets entries */
export async function verifyBundle(
  lines: AsyncIterable<string> | Iterable<string>,
  trust: BundleTrust = {},
  progress: (done: number, total: number) => void = () => undefined,
): Promise<BundleVerdict> {
  const verifier = new BundleVerifier(trust);
  let bad: Bad | undefined;
  try {
    for await (const line of lines) {
      verifier.read(line);
      if (verifier.entries % 1_000 === 0) progress(verifier.entries, verifier.total);
    }
    verifier.finish();
  } catch (error) {
    if (!(error instanceof Bad)) throw error;
    bad = error;
  }
  return {
    ok: bad === undefined,
    ...{ origin: verifier.header?.origin ?? null, from: verifier.header?.from ?? null },
    ...{ entries: verifier.entries, checkpoints: verifier.checkpoints },
    ...{ firstBadIndex: bad?.index ?? null, problem: bad?.message ?? null, signedBy: [...verifier.signedBy] },
  };
}

class BundleVerifier {
  header: Header | undefined;
  entries = 0;
  checkpoints = 0;
  readonly signedBy = new Set<string>();
  readonly #trust: BundleTrust;
  #keys: Verifier[] = [];
  /** Complete subtrees that end where the entries read so far end, by level. */
  readonly #edge: (Buffer | undefined)[] = [];
  #chain: Buffer = Buffer.alloc(0);
  #next = 0;
  /** The first entry that no checkpoint has confirmed. */
  #unconfirmed = 0;
  #known: SignedCheckpoint[] = [];
  #hasEnded = false;

  constructor(trust: BundleTrust) {
    this.#trust = trust;
  }

  get total(): number {
    return this.header ? this.header.to - this.header.from : 0;
  }

  read(line: string): void {
    if (this.#hasEnded) throw this.#bad('there is something after the end of the bundle');
    if (!this.header) this.#begin(line);
    else if (line.startsWith('[')) this.#entry(line, this.header);
    else this.#statement(line, this.header);
  }

  finish(): void {
    if (!this.header) throw new Bad(0, 'the bundle is empty');
    if (!this.#hasEnded)
      throw this.#bad(`the bundle ends before entry ${this.#next} of ${this.header.to}, without its last checkpoint`);
  }

  #begin(line: string): void {
    const header = objectIn(line);
    if (header?.waybill !== 'audit-bundle' || header.version !== 1)
      throw new Bad(0, 'this is not an audit bundle of version 1');
    const { origin, from, to, chain, before, keys } = header;
    const hashes = [chain, ...(Array.isArray(before) ? before : [])].map(hashOf);
    const isSound =
      typeof origin === 'string' &&
      isIndex(from) &&
      isIndex(to) &&
      from < to &&
      Array.isArray(keys) &&
      !hashes.includes(undefined);
    if (!isSound) throw new Bad(0, 'the first line of the bundle is damaged');
    this.header = { origin, from, to };
    this.#next = from;
    this.#unconfirmed = from;
    const [start, ...subtrees] = hashes as [Buffer, ...Buffer[]];
    this.#chain = start;
    for (let level = 0; 2 ** level <= from; level++)
      if (hasPower(from, level)) this.#edge[level] = subtrees.pop() as Buffer;
    if (subtrees.length > 0 || this.#edge.some((hash, level) => hasPower(from, level) && !hash))
      throw new Bad(from, 'the first line of the bundle does not have the hashes before its first entry');
    this.#learn(keys);
  }

  #learn(bundled: readonly unknown[]): void {
    const keys = this.#trust.keys ?? bundled;
    try {
      this.#keys = keys.map((key) => verifierOf(String(key)));
      this.#known = (this.#trust.checkpoints ?? []).map((note) => parseCheckpoint(note));
    } catch (error) {
      if (error instanceof MalformedNote) throw this.#bad(error.message);
      throw error;
    }
    this.#known = this.#known.filter(({ origin }) => origin === this.header?.origin).sort((a, b) => a.size - b.size);
  }

  #entry(line: string, { to }: Header): void {
    const index = this.#next;
    if (index >= to) throw this.#bad(`there are more entries than the ${to} that the bundle says it has`);
    const [, found, hash, chain] = ENTRY.exec(line) ?? [];
    if (found === undefined || hash === undefined) throw this.#bad(`the line of entry ${index} is damaged`);
    if (Number(found) !== index || found !== String(index))
      throw this.#bad(`entry ${found} stands where entry ${index} should be`);
    const leaf = leafHash(line.slice(ENTRY_OVERHEAD + found.length, -1));
    if (leaf.toString('base64') !== hash) throw this.#bad(`entry ${index} is not what its hash was made of`);
    this.#chain = chained(this.#chain, leaf);
    if (this.#chain.toString('base64') !== chain) throw this.#bad(`the chain does not lead to entry ${index}`);
    let [node, level] = [leaf, 0];
    for (; hasPower(index, level); level++) node = nodeHash(this.#edge[level] as Buffer, node);
    this.#edge[level] = node;
    this.#next++;
    this.entries++;
    while (this.#known[0] && this.#known[0].size <= this.#next) {
      const known = this.#known.shift() as SignedCheckpoint;
      if (known.size === this.#next) this.#compare(known, this.#root(), 'a checkpoint kept elsewhere');
    }
  }

  #statement(line: string, { to }: Header): void {
    const statement = objectIn(line);
    if (typeof statement?.checkpoint !== 'string') throw this.#bad(`the line before entry ${this.#next} is damaged`);
    const checkpoint = this.#signed(statement.checkpoint);
    if (statement.end !== true) {
      if (checkpoint.size !== this.#next)
        throw this.#unsure(`a checkpoint of ${checkpoint.size} entries is in the wrong place`);
      this.#compare(checkpoint, this.#root(), 'its checkpoint');
      return;
    }
    if (this.#next !== to) throw this.#bad(`the bundle has no entry ${this.#next}, although it should have ${to}`);
    const after = Array.isArray(statement.after) ? statement.after.map(hashOf) : [undefined];
    const root = after.includes(undefined) ? undefined : this.#rootWith(after as Buffer[], checkpoint.size);
    if (!root) throw this.#unsure('the hashes after the last entry are damaged');
    this.#compare(checkpoint, root, 'its checkpoint');
    this.#hasEnded = true;
  }

  #signed(note: string): SignedCheckpoint {
    try {
      const checkpoint = parseCheckpoint(note);
      const problem = problemWith(checkpoint.parsed, this.#keys);
      if (problem !== undefined) throw this.#unsure(`the checkpoint of ${checkpoint.size} entries ${problem}`);
      if (checkpoint.origin !== this.header?.origin) throw this.#unsure('a checkpoint is of another log');
      for (const { name, id } of checkpoint.parsed.signatures) this.signedBy.add(`${name}+${id.toString('hex')}`);
      return checkpoint;
    } catch (error) {
      if (error instanceof MalformedNote) throw this.#unsure(`a checkpoint ${error.message}`);
      throw error;
    }
  }

  #compare({ size, root, chain }: SignedCheckpoint, made: Buffer, what: string): void {
    const isSame = root.equals(made) && (size !== this.#next || chain.equals(this.#chain));
    if (!isSame)
      throw this.#unsure(`entries up to ${this.#next - 1} are not those that ${what} of ${size} was signed for`);
    this.#unconfirmed = this.#next;
    this.checkpoints++;
  }

  #root(): Buffer {
    return this.#subtrees().reduceRight((right, left) => nodeHash(left, right));
  }

  /** The complete subtrees of what was read, from left to right. */
  #subtrees(): Buffer[] {
    return this.#edge.filter((_, level) => hasPower(this.#next, level)).reverse() as Buffer[];
  }

  /** @returns undefined when there are too few hashes, or too many */
  #rootWith(after: Buffer[], size: number): Buffer | undefined {
    if (size === this.#next) return after.length === 0 ? this.#root() : undefined;
    if (size < this.#next) return undefined;
    const subtrees = this.#subtrees();
    const build = (low: number, high: number): Buffer | undefined => {
      if (low >= this.#next) return after.shift();
      if (high <= this.#next) return subtrees.shift();
      let split = 1;
      while (split * 2 < high - low) split *= 2;
      const left = build(low, low + split);
      const right = build(low + split, high);
      return left && right && nodeHash(left, right);
    };
    const root = build(0, size);
    return after.length === 0 ? root : undefined;
  }

  /** Exactly the next entry. */
  readonly #bad = (problem: string): Bad => new Bad(this.#next, problem);
  /** Some entry since the last checkpoint that held. */
  readonly #unsure = (problem: string): Bad => new Bad(this.#unconfirmed, problem);
}

const ENTRY = /^\[(\d+),"([A-Za-z0-9+/]{43}=)","([A-Za-z0-9+/]{43}=)",\[.*\]\]$/s;
/** Of what stands before the leaf, without the digits of the index. */
const ENTRY_OVERHEAD = '[,"","",'.length + 2 * 44;

const isIndex = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const hasPower = (size: number, level: number): boolean => Math.floor(size / 2 ** level) % 2 === 1;

function hashOf(text: unknown): Buffer | undefined {
  const hash = Buffer.from(typeof text === 'string' ? text : '', 'base64');
  return hash.length === HASH_BYTES && hash.toString('base64') === text ? hash : undefined;
}

function objectIn(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
