import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { join, relative } from 'node:path';
import ssh2 from 'ssh2';
import { fingerprintOf } from '../../../src/channels/files/sftp-connections.js';
import { unusedPort } from './http-peer.js';
import { sshKeys } from './ssh-keys.js';

export interface OpenSsh {
  /** Host, port, user, key and fingerprint for the SFTP channel. */
  readonly config: Readonly<Record<string, string | number>>;
  /** Where files may be put, an absolute path. */
  readonly folder: string;
  stored(): Promise<{ path: string; text: string; mode: number }[]>;
  close(): Promise<void>;
}

const SSHD = '/usr/sbin/sshd';

/** `.ci/run` installs it where it can. */
export const hasSshd = existsSync(SSHD);

/** OpenSSH's own server on 127.0.0.1, for the account that runs the tests. */
export async function startOpenSsh(): Promise<OpenSsh> {
  const folder = await mkdtemp(join(tmpdir(), 'waybill-sshd-'));
  const keys = join(folder, '.keys');
  await mkdir(keys);
  await chmod(folder, 0o755);
  const host = sshKeys();
  const user = sshKeys();
  const port = await unusedPort();
  await writeFile(join(keys, 'host'), host.private, { mode: 0o600 });
  await writeFile(join(keys, 'authorized'), `${user.public}\n`, { mode: 0o600 });
  const lines = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${join(keys, 'host')}`,
    `AuthorizedKeysFile ${join(keys, 'authorized')}`,
    'PasswordAuthentication no',
    'PermitRootLogin yes',
    'UsePAM no',
    'StrictModes no',
    'PidFile none',
    'Subsystem sftp internal-sftp',
  ];
  await writeFile(join(keys, 'config'), `${lines.join('\n')}\n`);
  if (userInfo().uid === 0) await mkdir('/run/sshd', { recursive: true });
  const sshd: ChildProcess = spawn(SSHD, ['-D', '-e', '-f', join(keys, 'config')], { stdio: 'pipe' });
  await new Promise<void>((resolve, reject) => {
    let log = '';
    sshd.stderr?.on('data', (chunk: Buffer) => {
      log += chunk;
      if (log.includes('Server listening')) resolve();
    });
    sshd.once('error', reject);
    sshd.once('exit', (code) => reject(new Error(`sshd ended with ${code}: ${log}`)));
  });
  const key = ssh2.utils.parseKey(host.private);
  if (key instanceof Error) throw key;
  return {
    config: {
      host: '127.0.0.1',
      port,
      username: userInfo().username,
      privateKey: user.private,
      hostKeyFingerprint: fingerprintOf(key.getPublicSSH()),
    },
    folder,
    stored: async () => {
      const all = await readdir(folder, { recursive: true, withFileTypes: true });
      const files = all.filter((entry) => entry.isFile() && !entry.parentPath.startsWith(keys));
      return Promise.all(
        files.map(async (entry) => {
          const path = join(entry.parentPath, entry.name);
          const { mode } = await stat(path);
          return { path: relative(folder, path), text: await readFile(path, 'utf8'), mode: mode & 0o777 };
        }),
      );
    },
    close: async () => {
      if (sshd.exitCode === null) {
        sshd.kill();
        await once(sshd, 'exit');
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}
