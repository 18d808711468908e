import type { IncomingMessage } from 'node:http';
import { finished } from 'node:stream/promises';
import type { FastifyInstance } from 'fastify';

/** How long, and how many times the limit, a body that is too large is read and thrown away. */
const PATIENCE_MS = 10_000;
const PATIENCE_FACTOR = 4;

/**
 * Answers requests whose body is announced to be too large, after reading it away. Answered at once, the connection
 * would be closed while the client still writes, and most clients report a broken connection instead of the answer.
 */
export function explainBodyLimit(server: FastifyInstance, maxBytes: number): void {
  server.addHook('onRequest', async (request) => {
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced <= maxBytes) return;
    if (announced <= maxBytes * PATIENCE_FACTOR) await readAway(request.raw);
    throw Object.assign(new Error(`the body has ${announced} bytes, more than the limit of ${maxBytes}`), {
      statusCode: 413,
    });
  });
}

const readAway = (body: IncomingMessage): Promise<unknown> =>
  finished(body.resume(), { signal: AbortSignal.timeout(PATIENCE_MS) }).catch(() => undefined);
