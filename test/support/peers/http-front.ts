import { request as httpRequest } from 'node:http';
import { type HttpPeer, type Reaction, type RecordedRequest, startHttpPeer } from './http-peer.js';

export interface HttpFront extends HttpPeer {
  /** Answers instead of the server behind; undefined lets the request through. */
  respond: (request: RecordedRequest) => Reaction | undefined;
}

/** Stands before a real HTTP server that never fails, and fails in its place. */
export async function startHttpFront(targetPort: number): Promise<HttpFront> {
  const peer = await startHttpPeer((request) => front.respond(request) ?? forwarded(request, targetPort));
  const front: HttpFront = Object.assign(peer, { respond: () => undefined });
  return front;
}

/** Far more than a server on this machine takes for an answer. */
const PATIENCE_MS = 10_000;

function forwarded({ method, path, headers, bytes }: RecordedRequest, port: number): Promise<Reaction> {
  return new Promise((resolve) => {
    // Whoever asks learns at once that the server behind has hung up; unanswered, it might wait for ever.
    const hungUp = () => resolve('drop');
    // A connection of its own: one that was kept can be closed by the server while the next request is on its way.
    const to = { host: '127.0.0.1', port, method, path, headers, agent: false, timeout: PATIENCE_MS };
    const outgoing = httpRequest(to, (answer) => {
      answer.on('error', hungUp);
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('end', () => {
        const { 'transfer-encoding': _, ...kept } = answer.headers;
        resolve({
          status: answer.statusCode ?? 500,
          headers: kept as Record<string, string>,
          body: Buffer.concat(chunks).toString('utf8'),
        });
      });
    });
    outgoing.on('error', hungUp);
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer')));
    outgoing.end(bytes);
  });
}
