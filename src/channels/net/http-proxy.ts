import type { Duplex } from 'node:stream';

/** The CONNECT method of HTTP proxies (RFC 9110, 9.3.6). */

export interface ProxyAccess {
  readonly username?: string;
  readonly password?: string;
}

/** The proxy answered something else than a tunnel. */
export class ProxyRefusal extends Error {
  readonly code: string;
  constructor(readonly status: number) {
    super(`the proxy answered ${status}`);
    this.code = `PROXY_${status}`;
  }
}

/** Of the head of the proxy's answer, in bytes. */
const LONGEST_HEAD = 16_384;
const STATUS_LINE = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/;

/**
 * Makes a tunnel to `authority` (`93.184.216.34:443`) of a connection to a proxy. Rejects with ProxyRefusal, or with the
 * connection's error; the connection is of no use then.
 */
export function tunnel(socket: Duplex, authority: string, { username, password }: ProxyAccess): Promise<void> {
  const login = Buffer.from(`${username}:${password ?? ''}`).toString('base64');
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`];
  if (username !== undefined) lines.push(`Proxy-Authorization: Basic ${login}`);
  return new Promise((resolve, reject) => {
    let head = Buffer.alloc(0);
    const settle = (error?: Error) => {
      socket.off('readable', read).off('error', settle).off('end', ended).off('close', ended);
      if (error) reject(error);
      else resolve();
    };
    const ended = () => settle(Object.assign(new Error('the proxy hung up'), { code: 'CONNECTION_CLOSED' }));
    const read = () => {
      for (let chunk: Buffer | null = socket.read(); chunk; chunk = socket.read()) head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0 && head.length <= LONGEST_HEAD) return;
      const status = Number(STATUS_LINE.exec(head.subarray(0, head.indexOf('\r\n')).toString('latin1'))?.[1] ?? 0);
      if (end < 0 || status === 0) return settle(Object.assign(new Error('no HTTP'), { code: 'PROXY_PROTOCOL' }));
      if (status < 200 || status > 299) return settle(new ProxyRefusal(status));
      // What follows the head is of the server behind the tunnel.
      if (head.length > end + 4) socket.unshift(head.subarray(end + 4));
      settle();
    };
    socket.on('readable', read).once('error', settle).once('end', ended).once('close', ended);
    socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  });
}
