import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { posix } from 'node:path';
import ssh2, { type Connection, type SFTPWrapper } from 'ssh2';
import { fingerprintOf } from '../../../src/channels/files/sftp-connections.js';
import { sshKeys } from './ssh-keys.js';

const { Server, utils } = ssh2;
const { STATUS_CODE, OPEN_MODE } = utils.sftp;

export interface StoredFile {
  bytes: Buffer;
  mode: number;
}

/** What happens to the next requests: each is answered with a status, the connection goes, or nobody answers. */
export type SftpReaction =
  | { readonly status: number; readonly text: string }
  | 'drop on rename'
  | 'silence'
  | 'refuse login'
  | 'spoil'
  | undefined;

export interface SftpServerPeer {
  readonly host: string;
  readonly port: number;
  /** `SHA256:…` of the host key. */
  readonly fingerprint: string;
  /** By absolute path; the login folder is `/home`. */
  readonly files: Map<string, StoredFile>;
  readonly folders: Map<string, number>;
  react: SftpReaction;
  /** Requests to open a file for writing so far. */
  opened(): number;
  connections(): number;
  close(): Promise<void>;
}

export interface SftpLogin {
  readonly username: string;
  readonly password?: string;
  /** In OpenSSH's one-line form. */
  readonly publicKey?: string;
}

const HOST_KEY = sshKeys();

/** A real SSH server on 127.0.0.1 whose files are in memory. It knows no extensions, as many servers do not. */
export async function startSftpServer(login: SftpLogin): Promise<SftpServerPeer> {
  const hostKey = utils.parseKey(HOST_KEY.private);
  if (hostKey instanceof Error) throw hostKey;
  const clients = new Set<Connection>();
  let connections = 0;
  let opened = 0;
  const server = new Server({ hostKeys: [HOST_KEY.private] }, (client) => {
    connections += 1;
    clients.add(client);
    client.on('close', () => clients.delete(client)).on('error', () => undefined);
    client.on('authentication', (context) => {
      const isHim = context.username === login.username && peer.react !== 'refuse login';
      if (isHim && context.method === 'password' && context.password === login.password) return context.accept();
      if (isHim && context.method === 'publickey' && login.publicKey !== undefined) {
        const known = utils.parseKey(login.publicKey);
        if (!(known instanceof Error) && known.getPublicSSH().equals(context.key.data)) {
          if (!context.signature || !context.blob) return context.accept();
          if (known.verify(context.blob, context.signature, context.hashAlgo)) return context.accept();
        }
      }
      context.reject(['password', 'publickey']);
    });
    client.on('session', (accept) =>
      accept().on('sftp', (open) => {
        const session = open();
        serve(session, client);
      }),
    );
  });

  function serve(sftp: SFTPWrapper, client: Connection): void {
    const handles = new Map<number, { path: string; mode: number }>();
    let next = 0;
    const absolute = (path: string) => posix.resolve('/home', path);
    const say = (id: number, status: number, text = '') => sftp.status(id, status, text);
    /** True when the request is not to be served. */
    const isStopped = (id: number): boolean => {
      if (peer.react === 'silence') return true;
      if (typeof peer.react !== 'object') return false;
      say(id, peer.react.status, peer.react.text);
      return true;
    };
    const attributes = (path: string) => {
      const file = peer.files.get(path);
      const mode = file ? file.mode | 0o100000 : (peer.folders.get(path) ?? 0) | 0o040000;
      return { mode, uid: 0, gid: 0, size: file?.bytes.length ?? 0, atime: 0, mtime: 0 };
    };
    const exists = (path: string) => peer.files.has(path) || peer.folders.has(path);
    const stat = (id: number, path: string) =>
      exists(absolute(path)) ? sftp.attrs(id, attributes(absolute(path))) : say(id, STATUS_CODE.NO_SUCH_FILE);

    sftp.on('REALPATH', (id, path) => {
      const filename = absolute(path);
      sftp.name(id, [{ filename, longname: filename, attrs: attributes(filename) }]);
    });
    sftp.on('STAT', stat).on('LSTAT', stat);
    sftp.on('MKDIR', (id, path, attrs) => {
      if (isStopped(id)) return;
      if (exists(absolute(path)) || !exists(posix.dirname(absolute(path)))) return say(id, STATUS_CODE.FAILURE);
      peer.folders.set(absolute(path), (attrs.mode ?? 0o777) & 0o7777);
      say(id, STATUS_CODE.OK);
    });
    sftp.on('OPEN', (id, path, flags) => {
      const isWrite = (flags & OPEN_MODE.WRITE) !== 0;
      if (isWrite) opened += 1;
      if (isStopped(id)) return;
      const name = absolute(path);
      if (!exists(isWrite ? posix.dirname(name) : name)) return say(id, STATUS_CODE.NO_SUCH_FILE);
      if (isWrite) peer.files.set(name, { bytes: Buffer.alloc(0), mode: 0o600 });
      const handle = Buffer.alloc(4);
      handle.writeUInt32BE(next);
      handles.set(next++, { path: name, mode: flags });
      sftp.handle(id, handle);
    });
    const fileOf = (handle: Buffer) => peer.files.get(handles.get(handle.readUInt32BE())?.path ?? '');
    sftp.on('WRITE', (id, handle, offset, data) => {
      const file = fileOf(handle);
      if (!file) return say(id, STATUS_CODE.FAILURE);
      const end = offset + data.length;
      if (end > file.bytes.length) file.bytes = Buffer.concat([file.bytes, Buffer.alloc(end - file.bytes.length)]);
      data.copy(file.bytes, offset);
      if (peer.react === 'spoil') file.bytes[0] = (file.bytes[0] ?? 0) ^ 1;
      say(id, STATUS_CODE.OK);
    });
    sftp.on('READ', (id, handle, offset, length) => {
      const part = fileOf(handle)?.bytes.subarray(offset, offset + length);
      if (part?.length) sftp.data(id, part);
      else say(id, STATUS_CODE.EOF);
    });
    sftp.on('FSTAT', (id, handle) => sftp.attrs(id, attributes(handles.get(handle.readUInt32BE())?.path ?? '')));
    sftp.on('CLOSE', (id, handle) => {
      handles.delete(handle.readUInt32BE());
      say(id, STATUS_CODE.OK);
    });
    const setMode = (path: string, mode: number | undefined) => {
      const file = peer.files.get(path);
      if (file && mode !== undefined) file.mode = mode & 0o7777;
    };
    sftp.on('SETSTAT', (id, path, { mode }) => {
      setMode(absolute(path), mode);
      say(id, STATUS_CODE.OK);
    });
    sftp.on('FSETSTAT', (id, handle, { mode }) => {
      setMode(handles.get(handle.readUInt32BE())?.path ?? '', mode);
      say(id, STATUS_CODE.OK);
    });
    sftp.on('REMOVE', (id, path) =>
      say(id, peer.files.delete(absolute(path)) ? STATUS_CODE.OK : STATUS_CODE.NO_SUCH_FILE),
    );
    sftp.on('RENAME', (id, from, to) => {
      if (peer.react === 'drop on rename') return void client.end();
      const file = peer.files.get(absolute(from));
      if (!file || exists(absolute(to))) return say(id, STATUS_CODE.FAILURE);
      peer.files.delete(absolute(from));
      peer.files.set(absolute(to), file);
      say(id, STATUS_CODE.OK);
    });
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const peer: SftpServerPeer = {
    host: '127.0.0.1',
    port: (server.address() as AddressInfo).port,
    fingerprint: fingerprintOf(hostKey.getPublicSSH()),
    files: new Map(),
    folders: new Map([
      ['/', 0o755],
      ['/home', 0o755],
    ]),
    react: undefined,
    opened: () => opened,
    connections: () => connections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const client of clients) client.end();
      }),
  };
  return peer;
}
