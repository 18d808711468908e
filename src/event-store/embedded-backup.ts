import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { DATA_FILE } from './embedded-file.js';
import { openTablesUnchecked } from './embedded-log-reader.js';
import { type Progress, verifyLog } from './embedded-verify.js';

/**
 * A backup is one file: the log's LMDB file, compacted; then what is to be known of it, as JSON in UTF-8; then a footer
 * of 12 bytes: CRC-32 of the JSON and its length, both 4 bytes big-endian, and `WBLB`. Without its end, which is
 * written last, it is no backup.
 */
export interface BackupManifest {
  readonly version: 1;
  /** Of the log's file. */
  readonly bytes: number;
  /** Of these bytes, hexadecimal. */
  readonly sha256: string;
  /** Position of the newest event. */
  readonly head: string;
  /** When it was made (RFC 3339, UTC). */
  readonly created: string;
}

/** The file is no backup, or not the whole one that was written; the message is one line. */
export class BackupUnusable extends Error {
  override name = 'BackupUnusable';
}

const FOOTER_BYTES = 12;
const MARK = 'WBLB';
const MAX_MANIFEST_BYTES = 4_096;
const CHUNK_BYTES = 1024 * 1024;
const PROGRESS_MS = 100;
/** Copying, verifying and summing take about the same time. */
const PHASES = 3;

/**
 * Copies a log as it is at one moment, while others may write to it, and returns when the copy would survive a power cut.
 *
 * @param file must not exist yet; what is written until it is complete is beside it
 * @throws Error, one line: the file exists, the log cannot be opened, the disk is full, …
 */
export async function backUp(
  folder: string,
  file: string,
  progress: Progress = () => undefined,
): Promise<BackupManifest> {
  // Takes the name: two backups to one file at once are one too many.
  const taken = await open(file, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EEXIST' ? new Error(`${file} exists already; a backup overwrites nothing`) : error;
  });
  await taken.close();
  const part = `${file}.part`;
  try {
    await rm(part, { recursive: true, force: true });
    await mkdir(part, { mode: 0o700 });
    await copyTables(folder, part, progress);
    const manifest = await manifestOf(part, progress);
    const data = await open(join(part, DATA_FILE), 'r+');
    try {
      const text = Buffer.from(JSON.stringify(manifest));
      const footer = Buffer.alloc(FOOTER_BYTES);
      footer.writeUInt32BE(crc32(text), 0);
      footer.writeUInt32BE(text.length, 4);
      footer.write(MARK, 8, 'latin1');
      await writeAll(data, Buffer.concat([text, footer]), manifest.bytes);
      await data.sync();
    } finally {
      await data.close();
    }
    await rename(join(part, DATA_FILE), file);
    await syncFolder(dirname(file));
    return manifest;
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

/** @throws BackupUnusable when the file is not, byte for byte, what `backUp` wrote */
export async function checkBackup(file: string, progress: Progress = () => undefined): Promise<BackupManifest> {
  const handle = await open(file, 'r');
  try {
    const manifest = await readManifest(handle);
    const { bytes, sha256 } = manifest;
    if ((await digestOf(handle, bytes, progress)) !== sha256)
      throw new BackupUnusable('it is damaged: its checksum does not match');
    return manifest;
  } catch (error) {
    if (error instanceof BackupUnusable) throw new BackupUnusable(`${file} cannot be used: ${error.message}`);
    throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Writes the log of a backup into a folder that has none, durably.
 *
 * @throws BackupUnusable when the file is not, byte for byte, what `backUp` wrote; the folder is not to be used then
 */
export async function extractBackup(
  file: string,
  folder: string,
  progress: Progress = () => undefined,
): Promise<BackupManifest> {
  const from = await open(file, 'r');
  const to = await open(join(folder, DATA_FILE), 'wx', 0o600);
  try {
    const manifest = await readManifest(from);
    const write = (chunk: Buffer, offset: number) => writeAll(to, chunk, offset);
    const digest = await digestOf(from, manifest.bytes, progress, write);
    if (digest !== manifest.sha256) throw new BackupUnusable(`${file} changed while it was read`);
    await to.sync();
    return manifest;
  } finally {
    await from.close();
    await to.close();
    await syncFolder(folder);
  }
}

async function copyTables(folder: string, part: string, progress: Progress): Promise<void> {
  const { env } = openTablesUnchecked(folder, true);
  const { lastPageNumber, pageSize } = env.getStats() as { lastPageNumber: number; pageSize: number };
  const total = (lastPageNumber + 1) * pageSize;
  const watching = setInterval(async () => {
    const copied = await stat(join(part, DATA_FILE)).catch(() => undefined);
    if (copied) progress(Math.min(copied.size, total), PHASES * total);
  }, PROGRESS_MS);
  try {
    await env.backup(part, true).catch(async (error: Error) => {
      if (!error.message.startsWith('MDB_INCOMPATIBLE')) throw error;
      // So LMDB says that a page belongs to nobody, which harms no reader; only what it counts on to compact is wrong.
      await rm(join(part, DATA_FILE));
      await env.backup(part, false);
    });
  } finally {
    clearInterval(watching);
    await env.close();
  }
}

/** @throws Error, one line, when the copy is not a whole log: nobody should learn that when it is needed */
async function manifestOf(part: string, progress: Progress): Promise<BackupManifest> {
  const { problems, first, events } = await verifyLog(part, (done, total) => progress(total + done, PHASES * total));
  if (problems > 0) throw new Error(`a damaged event log is not backed up (waybill log verify names all): ${first[0]}`);
  const handle = await open(join(part, DATA_FILE), 'r');
  try {
    const { size: bytes } = await handle.stat();
    const sha256 = await digestOf(handle, bytes, (done, total) => progress(2 * total + done, PHASES * total));
    return { version: 1, bytes, sha256, head: String(events), created: new Date().toISOString() };
  } finally {
    await handle.close();
  }
}

async function readManifest(handle: FileHandle): Promise<BackupManifest> {
  const { size } = await handle.stat();
  const footer = await bytesAt(handle, size - FOOTER_BYTES, FOOTER_BYTES);
  const length = footer?.readUInt32BE(4) ?? 0;
  if (footer?.toString('latin1', 8) !== MARK || length > MAX_MANIFEST_BYTES)
    throw new BackupUnusable('it is not a backup of an event log, or its end is missing');
  const text = await bytesAt(handle, size - FOOTER_BYTES - length, length);
  if (!text || crc32(text) !== footer.readUInt32BE(0)) throw new BackupUnusable('it is damaged at its end');
  const manifest = JSON.parse(text.toString()) as BackupManifest;
  if (manifest.version !== 1) throw new BackupUnusable('a newer Waybill made it');
  if (manifest.bytes + length + FOOTER_BYTES !== size)
    throw new BackupUnusable('it is damaged: a part of it is missing');
  return manifest;
}

async function bytesAt(handle: FileHandle, offset: number, length: number): Promise<Buffer | undefined> {
  if (offset < 0) return undefined;
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, offset);
  return bytesRead === length ? buffer : undefined;
}

/** One call may write less than it is given. */
async function writeAll(handle: FileHandle, bytes: Buffer, offset: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, offset + done);
    done += bytesWritten;
  }
}

/** SHA-256 of a file's first bytes, hexadecimal. */
async function digestOf(
  handle: FileHandle,
  bytes: number,
  progress: Progress,
  use: (chunk: Buffer, offset: number) => Promise<void> = async () => undefined,
): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let offset = 0; offset < bytes; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(CHUNK_BYTES, bytes - offset), offset);
    if (bytesRead === 0) break;
    const chunk = buffer.subarray(0, bytesRead);
    hash.update(chunk);
    await use(chunk, offset);
    offset += bytesRead;
    progress(offset, bytes);
  }
  return hash.digest('hex');
}

/** Makes new names in a folder survive a power cut. */
async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
