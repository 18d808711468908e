import { newestCheckpoint } from './checkpoint-store.js';
import { consistencyProof, inclusionProof, rootOf } from './merkle.js';
import { readHead, type Sql, storedSubtrees } from './store.js';

export type ProofRequest =
  | { readonly kind: 'INCLUSION'; readonly index: number; readonly treeSize: number | undefined }
  | { readonly kind: 'CONSISTENCY'; readonly firstSize: number; readonly treeSize: number | undefined };

export interface AuditProof {
  readonly kind: ProofRequest['kind'];
  readonly treeSize: number;
  readonly rootHash: string;
  readonly index: number | null;
  readonly leafHash: string | null;
  readonly firstSize: number | null;
  readonly firstRootHash: string | null;
  /** As RFC 9162 orders them (2.1.3 and 2.1.4). */
  readonly hashes: readonly string[];
}

/** There is no such entry, or no such tree; `path` is the argument that is to blame. */
export class NoProof extends Error {
  override name = 'NoProof';

  constructor(
    readonly path: string,
    readonly problem: string,
  ) {
    super(`${path}: ${problem}`);
  }
}

/** From the stored tree. Without a size, for the newest checkpoint's, whose root is signed. @throws NoProof */
export async function proofOf(sql: Sql, log: string, request: ProofRequest): Promise<AuditProof> {
  const size = (await readHead(sql, log))?.size ?? 0;
  const treeSize = request.treeSize ?? (await newestCheckpoint(sql, log))?.size ?? 0;
  if (treeSize < 1 || treeSize > size)
    throw new NoProof('treeSize', `must be from 1 to ${size}, the entries there are`);
  const subtrees = storedSubtrees(sql, log);
  const rootHash = text(await rootOf(treeSize, subtrees));
  const none = { index: null, leafHash: null, firstSize: null, firstRootHash: null };
  if (request.kind === 'INCLUSION') {
    const { index } = request;
    if (index < 0 || index >= treeSize) throw new NoProof('index', `must be from 0 to ${treeSize - 1}`);
    const hashes = (await inclusionProof(index, treeSize, subtrees)).map(text);
    return { ...none, kind: 'INCLUSION', treeSize, rootHash, index, leafHash: text(await subtrees(0, index)), hashes };
  }
  const { firstSize } = request;
  if (firstSize < 1 || firstSize > treeSize) throw new NoProof('firstSize', `must be from 1 to ${treeSize}`);
  const hashes = (await consistencyProof(firstSize, treeSize, subtrees)).map(text);
  const firstRootHash = text(await rootOf(firstSize, subtrees));
  return { ...none, kind: 'CONSISTENCY', treeSize, rootHash, firstSize, firstRootHash, hashes };
}

const text = (hash: Buffer): string => hash.toString('base64');
