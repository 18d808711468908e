import type { FastifyInstance } from 'fastify';

/** What every answer says to browsers, unless its route says something else (OWASP Secure Headers Project). */
const HEADERS: readonly (readonly [string, string])[] = [
  ['x-content-type-options', 'nosniff'],
  ['x-frame-options', 'DENY'],
  ['referrer-policy', 'no-referrer'],
  ['cross-origin-resource-policy', 'same-origin'],
  ['content-security-policy', "default-src 'none'; frame-ancestors 'none'"],
  // Answers are somebody's data.
  ['cache-control', 'no-store'],
];

/** RFC 6797: one year. */
const ONLY_TLS = ['strict-transport-security', 'max-age=31536000'] as const;

export function addSecurityHeaders(server: FastifyInstance, isTls: boolean): void {
  const headers = isTls ? [...HEADERS, ONLY_TLS] : HEADERS;
  server.addHook('onSend', async (_request, reply) => {
    for (const [name, value] of headers) if (!reply.hasHeader(name)) reply.header(name, value);
  });
}
