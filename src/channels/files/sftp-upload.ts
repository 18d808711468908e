import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { SFTPWrapper } from 'ssh2';
import type { FileSource } from '../channel.js';

/** One file to an SFTP server so that nobody ever sees a part of it under its name. */

/** Status codes (draft-ietf-secsh-filexfer-02, section 7). */
const NO_SUCH_FILE = 2;
const FAILURE = 4;

export interface Upload {
  readonly path: string;
  readonly source: FileSource;
  /** Of the file, such as 0o640. */
  readonly mode: number;
  /** Of folders that are made; undefined makes none. */
  readonly folderMode: number | undefined;
  readonly verify: 'digest' | 'size' | 'none';
  /** Distinguishes the temporary file; the same for every attempt, so that a retry takes the place of what it left. */
  readonly key: string;
  /** Called before the file gets its name: from then on it may be there. */
  readonly onNaming: () => void;
}

export class VerificationError extends Error {
  readonly code = 'VERIFICATION_FAILED';
}

/** Rejects with the server's status as `code`, a number, or with VerificationError. */
export async function upload(sftp: SFTPWrapper, file: Upload): Promise<void> {
  const folder = posix.dirname(file.path);
  if (file.folderMode !== undefined) await makeFolders(sftp, folder, file.folderMode);
  const temporary = posix.join(folder, `.${createHash('sha256').update(file.key).digest('hex').slice(0, 32)}.part`);
  try {
    const sent = await write(sftp, temporary, file.source);
    // Not the mode of `open`: the server's umask would be taken off it.
    await call((done) => sftp.chmod(temporary, file.mode, done));
    await verify(sftp, temporary, sent, file.verify);
    file.onNaming();
    await rename(sftp, temporary, file.path);
  } catch (error) {
    await call((done) => sftp.unlink(temporary, done)).catch(() => undefined); // as far as that is still possible
    throw error;
  }
}

interface Sent {
  readonly bytes: number;
  readonly digest: Buffer;
}

async function write(sftp: SFTPWrapper, path: string, { read }: FileSource): Promise<Sent> {
  const stream = sftp.createWriteStream(path, { flags: 'w' }).on('error', alreadyKnown);
  const hash = createHash('sha256');
  let bytes = 0;
  async function* noted() {
    for await (const chunk of read()) {
      hash.update(chunk);
      bytes += chunk.length;
      yield chunk;
    }
  }
  try {
    await pipeline(noted, stream);
  } catch (error) {
    // Else it could be made after it was removed.
    if (!stream.closed) await once(stream, 'close');
    throw error;
  }
  return { bytes, digest: hash.digest() };
}

async function verify(sftp: SFTPWrapper, path: string, sent: Sent, how: Upload['verify']): Promise<void> {
  if (how === 'none') return;
  const { size } = await value<{ size: number }>((done) => sftp.stat(path, done));
  if (size !== sent.bytes) throw new VerificationError(`${size} of ${sent.bytes} bytes arrived`);
  if (how === 'size') return;
  const hash = createHash('sha256');
  for await (const chunk of sftp.createReadStream(path).on('error', alreadyKnown)) hash.update(chunk as Buffer);
  if (!hash.digest().equals(sent.digest)) {
    throw new VerificationError('what the server gives back is not what was sent');
  }
}

/** Atomic and over an existing file where the server can (OpenSSH); SFTP 3's own rename refuses an existing name. */
async function rename(sftp: SFTPWrapper, from: string, to: string): Promise<void> {
  try {
    await call((done) => sftp.ext_openssh_rename(from, to, done));
    return;
  } catch (error) {
    if (typeof (error as { code?: unknown }).code === 'number') throw error; // refused, not unknown
  }
  try {
    await call((done) => sftp.rename(from, to, done));
  } catch (error) {
    if ((error as { code?: unknown }).code !== FAILURE) throw error;
    await call((done) => sftp.unlink(to, done));
    await call((done) => sftp.rename(from, to, done));
  }
}

async function makeFolders(sftp: SFTPWrapper, folder: string, mode: number): Promise<void> {
  const missing: string[] = [];
  for (let path = folder; path !== '/' && path !== '.'; path = posix.dirname(path)) {
    const isThere = await call((done) => sftp.stat(path, done)).then(
      () => true,
      (error: { code?: unknown }) => {
        if (error.code !== NO_SUCH_FILE) throw error;
        return false;
      },
    );
    if (isThere) break;
    missing.unshift(path);
  }
  for (const path of missing) {
    await call((done) => sftp.mkdir(path, { mode }, done)).catch(async (error) => {
      // Another upload was quicker.
      await call((done) => sftp.stat(path, done)).catch(() => Promise.reject(error));
    });
  }
}

/** Closing the handle of a stream that is done may fail too, when nobody listens any more: that would end the process. */
const alreadyKnown = (): void => undefined;

type Done = (error: Error | null | undefined) => void;
const call = (begin: (done: Done) => void): Promise<void> =>
  new Promise((resolve, reject) => begin((error) => (error ? reject(error) : resolve())));
const value = <T>(begin: (done: (error: Error | undefined, value: T) => void) => void): Promise<T> =>
  new Promise((resolve, reject) => begin((error, found) => (error ? reject(error) : resolve(found))));
