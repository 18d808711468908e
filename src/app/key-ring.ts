import { join } from 'node:path';
import type { Config } from '../platform/config.js';
import { extendKeyRing, parseKeyRing, type RingKey, readKeyRing, replaceKeyRing } from '../platform/key-ring-file.js';
import { KeyEncryption } from '../security/key-encryption.js';
import type { RotatableKeyRing } from '../security/key-rotation.js';
import type { KeyTable } from '../security/key-table.js';
import type { Kms } from '../security/kms.js';

/**
 * Where the key-encryption keys are is decided here: in a file, in a variable, or behind AWS KMS.
 *
 * @param isNew true when nothing is wrapped yet, so that a ring may be made
 * @throws Error, one line: there is none, it is damaged, or KMS refuses
 */
export async function openKeyRing(config: Config, table: KeyTable, isNew: boolean): Promise<RotatableKeyRing> {
  if (config.kms) {
    // Only who uses it waits until the AWS SDK is loaded.
    const { Kms } = await import('../security/kms.js');
    return await openKmsRing(new Kms(config.kms), config.kms.keyId, table, isNew);
  }
  if (config.keyRing !== undefined) return ringInVariable(parseKeyRing(config.keyRing, 'WAYBILL_KEY_RING'));
  return await openRingFile(config.keyRingFile ?? join(config.dataDir, 'keys.json'), isNew);
}

async function openRingFile(file: string, isNew: boolean): Promise<RotatableKeyRing> {
  let keys = (await readKeyRing(file)) ?? [];
  if (keys.length === 0 && !isNew)
    throw new Error(
      `there is no key ring in ${file}, and the keys in the database are wrapped with one: put a copy of it there, or ` +
        'name it with WAYBILL_KEY_RING_FILE',
    );
  if (keys.length === 0) keys = await extendKeyRing(file, []);
  let encryption = encryptionOf(keys);
  const use = (changed: RingKey[]) => {
    keys = changed;
    encryption = encryptionOf(keys);
  };
  return {
    get encryption() {
      return encryption;
    },
    versions: () => keys,
    reload: async () => use((await readKeyRing(file)) ?? keys),
    extend: async () => use(await extendKeyRing(file, keys)),
    async retire(isNeeded) {
      const kept = keys.filter(({ version }) => isNeeded(version));
      if (kept.length < keys.length) use(await replaceKeyRing(file, kept));
    },
  };
}

function ringInVariable(keys: readonly RingKey[]): RotatableKeyRing {
  return {
    encryption: encryptionOf(keys),
    versions: () => keys,
    reload: async () => undefined,
    async extend() {
      throw new Error(
        'WAYBILL_KEY_RING: add a new version to it where it is kept, start all instances with it, then rotate',
      );
    },
    retire: async () => undefined,
  };
}

/** Each version is a key that KMS has generated; its wrapped form is in the database, where all instances find it. */
async function openKmsRing(kms: Kms, keyId: string, table: KeyTable, isNew: boolean): Promise<RotatableKeyRing> {
  let keys: RingKey[] = [];
  let encryption: KeyEncryption | undefined;
  const read = async () => {
    const opened = (await table.keyEncryptionKeys()).map(async ({ version, created, wrapped }) => ({
      version,
      created,
      key: keys.find((known) => known.version === version)?.key ?? (await kms.open(wrapped)),
    }));
    keys = await Promise.all(opened);
    encryption = keys.length > 0 ? encryptionOf(keys) : undefined;
  };
  const extend = async () => {
    const version = Math.max(0, ...keys.map((key) => key.version)) + 1;
    const { wrapped } = await kms.generate();
    // Another instance may have been faster; then its key is the one that is read.
    await table.addKeyEncryptionKey(version, keyId, wrapped);
    await read();
  };
  await read();
  if (!encryption && !isNew)
    throw new Error('kms: the keys in the database are not wrapped by KMS; remove this setting');
  if (!encryption) await extend();
  return {
    get encryption() {
      return encryption as KeyEncryption;
    },
    versions: () => keys,
    reload: read,
    extend,
    async retire(isNeeded) {
      await table.dropKeyEncryptionKeys(keys.map(({ version }) => version).filter((version) => !isNeeded(version)));
      await read();
    },
  };
}

const encryptionOf = (keys: readonly RingKey[]): KeyEncryption =>
  new KeyEncryption(new Map(keys.map(({ version, key }) => [version, key])));
