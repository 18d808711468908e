import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import type { Client, SFTPWrapper } from 'ssh2';
import type { Egress } from '../net/egress.js';
import type { ProxyServer } from '../net/ways-out.js';
import { abortReason } from '../outcome.js';

/**
 * Connections to SFTP servers, kept for the next file: a handshake with its key exchange and login takes about 100 ms
 * and ten round trips. One connection carries all the uploads to a server with one login, as SFTP numbers its requests.
 */

/** Servers whose connections are kept. Beyond it the ones unused for longest are closed. */
const SESSIONS = 64;
/** Then an unused connection is closed. */
const IDLE_MS = 30_000;
const READY_TIMEOUT_MS = 20_000;

export interface SftpServer {
  readonly host: string;
  readonly port?: number; // default 22
  readonly username: string;
  readonly password?: string;
  readonly privateKey?: string;
  readonly passphrase?: string;
  /** `SHA256:…` as `ssh-keygen -l` shows it; several while the server changes its key. */
  readonly hostKeyFingerprints: readonly string[];
  readonly proxy?: ProxyServer;
}

export class HostKeyError extends Error {
  readonly code = 'HOST_KEY_MISMATCH';
}

interface Session {
  readonly sftp: SFTPWrapper;
  /** Rejects when the connection is lost; never resolves. */
  readonly lost: Promise<never>;
}

interface Entry {
  readonly key: string;
  readonly session: Promise<Session>;
  readonly close: () => void;
  inUse: number;
  isDiscarded: boolean;
  idle?: NodeJS.Timeout;
}

export class SftpConnections {
  readonly #egress: Egress;
  /** By everything a connection depends on, in order of last use. */
  readonly #entries = new Map<string, Entry>();

  constructor(egress: Egress) {
    this.#egress = egress;
  }

  /** Does `work` over a connection. Rejects with its error, with that of the connection, or when the signal aborts. */
  async use<T>(server: SftpServer, signal: AbortSignal, work: (sftp: SFTPWrapper) => Promise<T>): Promise<T> {
    if (signal.aborted) throw abortReason(signal);
    const entry = this.#acquire(server);
    const stop = new AbortController();
    const aborted = once(signal, 'abort', { signal: stop.signal }).then(() => Promise.reject(abortReason(signal)));
    const worked = entry.session.then(({ sftp, lost }) => Promise.race([work(sftp), lost]));
    aborted.catch(() => undefined); // whichever loses the race has nobody to hear it
    worked.catch(() => undefined);
    try {
      return await Promise.race([worked, aborted as Promise<never>]);
    } catch (error) {
      // A server that does not answer one request will not answer the next one either.
      if (signal.aborted) this.#discard(entry);
      throw error;
    } finally {
      stop.abort();
      this.#release(entry);
    }
  }

  /** Closes all connections; what is being sent is finished first. */
  close(): void {
    for (const entry of this.#entries.values()) this.#discard(entry);
  }

  #acquire(server: SftpServer): Entry {
    const { host, port, username, password, privateKey, passphrase, hostKeyFingerprints, proxy } = server;
    const key = JSON.stringify([host, port, username, password, privateKey, passphrase, hostKeyFingerprints, proxy]);
    const entry = this.#entries.get(key) ?? this.#open(server, key);
    clearTimeout(entry.idle);
    entry.inUse += 1;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  #open(server: SftpServer, key: string): Entry {
    const closing = new AbortController();
    const session = connect(this.#egress, server, closing.signal);
    const entry: Entry = { key, session, close: () => closing.abort(), inUse: 0, isDiscarded: false };
    const discard = () => this.#discard(entry);
    session.then(({ lost }) => lost.catch(discard), discard);
    return entry;
  }

  #release(entry: Entry): void {
    entry.inUse -= 1;
    if (entry.inUse > 0) return;
    if (entry.isDiscarded) {
      entry.close();
      return;
    }
    entry.idle = setTimeout(() => this.#discard(entry), IDLE_MS).unref();
    for (const other of this.#entries.values()) {
      if (this.#entries.size <= SESSIONS) return;
      if (other.inUse === 0) this.#discard(other);
    }
  }

  #discard(entry: Entry): void {
    if (this.#entries.get(entry.key) === entry) this.#entries.delete(entry.key);
    entry.isDiscarded = true;
    clearTimeout(entry.idle);
    if (entry.inUse === 0) entry.close();
  }
}

/** Connects, checks the server's key, logs in and opens the SFTP subsystem. */
async function connect(egress: Egress, server: SftpServer, closing: AbortSignal): Promise<Session> {
  const { Client } = (await import('ssh2')).default;
  const { host, port = 22, username, password, privateKey, passphrase, hostKeyFingerprints, proxy } = server;
  const sock = await egress.connect(host, port, { signal: closing, proxy });
  const client = new Client();
  let presented: string | undefined;
  const failed = failureOf(client, () => presented);
  failed.catch(() => undefined);
  // Closed by us, or by whoever waits no longer: the socket goes, and with it everything that hangs on it.
  closing.addEventListener('abort', () => client.destroy());
  client.on('keyboard-interactive', (_, __, ___, prompts, answer) => answer(prompts.map(() => password ?? '')));
  client.connect({
    sock,
    username,
    ...(password !== undefined && { password, tryKeyboard: true }),
    ...(privateKey !== undefined && { privateKey }),
    ...(passphrase !== undefined && { passphrase }),
    readyTimeout: READY_TIMEOUT_MS,
    keepaliveInterval: 10_000,
    hostVerifier: (key: Buffer) => {
      const fingerprint = fingerprintOf(key);
      const isKnown = hostKeyFingerprints.some((known) => isEqual(known, fingerprint));
      if (!isKnown) presented = fingerprint;
      return isKnown;
    },
  });
  const opened = once(client, 'ready').then(
    () =>
      new Promise<SFTPWrapper>((resolve, reject) =>
        client.sftp((error, sftp) => (error ? reject(error) : resolve(sftp))),
      ),
  );
  opened.catch(() => undefined);
  return { sftp: await Promise.race([opened, failed]), lost: failed };
}

/** Rejects with what ends the connection; a listener stays for ever, as an error nobody hears would end the process. */
function failureOf(client: Client, mismatch: () => string | undefined): Promise<never> {
  return new Promise((_, reject) => {
    client.on('error', (error) => {
      const presented = mismatch();
      reject(presented === undefined ? error : new HostKeyError(`the server shows the key ${presented}`));
    });
    client.on('close', () => reject(Object.assign(new Error('closed'), { code: 'CONNECTION_CLOSED' })));
  });
}

/** As OpenSSH writes it: base64 without padding (RFC 4255 has the hash, `ssh-keygen -l` the form). */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

function isEqual(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
