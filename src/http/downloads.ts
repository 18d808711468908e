import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { type Downloads, streamOf } from '../commands/downloads.js';
import type { AccessLog } from '../security/access-log.js';
import type { DownloadLinks, LinkTarget } from '../security/download-links.js';
import { type Passwords, TooManyPasswords } from '../security/passwords.js';
import { type ByteRange, rangeOf } from './byte-range.js';

/** Reads what is kept, a part at a time. */
export interface KeptFiles {
  /** @throws ContentLost, ContentUnavailable */
  open(
    stored: NonNullable<Found['stored']>[number],
    streamId: string,
  ): Promise<{ readonly read: (range: ByteRange) => AsyncIterable<Buffer> }>;
}

export interface DownloadRoutes {
  readonly downloads: Downloads;
  readonly links: DownloadLinks;
  readonly passwords: Passwords;
  readonly files: KeptFiles;
  readonly accessLog: AccessLog;
}

type Found = NonNullable<Awaited<ReturnType<Downloads['find']>>>;

/** Nothing of what a file says is run, whatever it claims to be. */
const SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";
/** Browsers do not show PDF in a sandbox; what shows it runs in one of its own. */
const PDF = "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'; frame-ancestors 'none'";

/** Files behind signed links: `/downloads/<id>/<file>`. Nobody logs in here; whoever has the link is who it was given to. */
export function serveDownloads(server: FastifyInstance, routes: DownloadRoutes): void {
  server.route({
    method: ['GET', 'HEAD'],
    url: '/downloads/:id/:file',
    handler: (request, reply) => answer(request, reply, routes),
  });
}

async function answer(request: FastifyRequest, reply: FastifyReply, routes: DownloadRoutes): Promise<unknown> {
  const { downloads, links } = routes;
  const { id, file } = request.params as { id: string; file: string };
  const { expires, signature } = request.query as Record<string, unknown>;
  const link = links.verified(id, file, expires, signature);
  if (!link) return refused(request, reply, routes, { status: 403, reason: 'signature', resource: id });
  if (link.expiresAt.getTime() <= Date.now())
    return refused(request, reply, routes, { status: 410, reason: 'expired', resource: id });
  const found = await downloads.find(id);
  const kept = found?.files?.[link.file];
  const stored = found?.stored?.[link.file];
  if (!found || !kept || !stored) return refused(request, reply, routes, { status: 410, reason: 'gone', resource: id });
  const condition = downloads.condition(found);
  if (condition === 'locked') return refused(request, reply, routes, { status: 403, reason: 'locked', resource: id });
  if (found.hasPassword) {
    const verdict = await passwordVerdict(request, link, found, routes);
    if (verdict === 'busy') return reply.code(503).header('retry-after', '5').send();
    if (verdict === 'refused')
      return reply.code(401).header('www-authenticate', `Basic realm="${id}", charset="UTF-8"`).send();
  }

  const etag = `"${id}-${link.file}"`;
  const ifRange = request.headers['if-range'];
  const range = ifRange !== undefined && ifRange !== etag ? 'whole' : rangeOf(request.headers.range, kept.bytes);
  reply.headers({ 'accept-ranges': 'bytes', etag, 'cache-control': 'no-store' });
  if (range === 'unsatisfiable') return reply.code(416).header('content-range', `bytes */${kept.bytes}`).send();
  const part = range === 'whole' ? { start: 0, end: kept.bytes - 1 } : range;
  const source = await routes.files.open(stored, streamOf(id.toLowerCase())).catch((error: { code?: string }) => error);
  if (!('read' in source)) {
    if (source.code === 'CONTENT_LOST')
      return refused(request, reply, routes, { status: 410, reason: 'gone', resource: id });
    return reply.code(503).header('retry-after', '5').send();
  }
  if (request.method !== 'HEAD') {
    const asked = { file: link.file, isRest: part.start > 0, address: request.ip };
    const access = await downloads.access(id, asked, found);
    if (!access.ok) return refused(request, reply, routes, { status: 410, reason: 'used', resource: id });
  }

  reply.code(range === 'whole' ? 200 : 206);
  if (range !== 'whole') reply.header('content-range', `bytes ${part.start}-${part.end}/${kept.bytes}`);
  reply.headers({
    'content-length': part.end - part.start + 1,
    'content-disposition': dispositionOf(found.isViewOnly ? 'inline' : 'attachment', kept.name),
    'content-type': found.isViewOnly ? shownAs(kept.contentType) : kept.contentType,
    'content-security-policy': found.isViewOnly && /^application\/pdf/i.test(kept.contentType) ? PDF : SANDBOX,
  });
  if (request.method === 'HEAD') return reply.send();
  const bytes = source.read({ start: part.start, end: part.end + 1 });
  return reply.send(Readable.from(bytes, { objectMode: false }));
}

/** A text is shown as nothing but a text, in one encoding. */
const shownAs = (contentType: string): string =>
  /^text\//i.test(contentType) ? 'text/plain; charset=utf-8' : contentType;

/** RFC 7617; the user's name says nothing here. */
async function passwordVerdict(
  request: FastifyRequest,
  { id }: LinkTarget,
  found: Found,
  { downloads, passwords }: DownloadRoutes,
): Promise<'good' | 'refused' | 'busy'> {
  const [, encoded] = /^Basic +([A-Za-z0-9+/=]{1,1024}) *$/i.exec(request.headers.authorization ?? '') ?? [];
  if (encoded === undefined || !found.password) return 'refused';
  const text = Buffer.from(encoded, 'base64').toString();
  try {
    if (await passwords.matches(text.slice(text.indexOf(':') + 1), found.password)) return 'good';
  } catch (error) {
    if (error instanceof TooManyPasswords) return 'busy';
    throw error;
  }
  await downloads.refuse(id, request.ip, found);
  return 'refused';
}

function refused(
  { ip }: FastifyRequest,
  reply: FastifyReply,
  { accessLog }: DownloadRoutes,
  { status, reason, resource }: { readonly status: number; readonly reason: string; readonly resource: string },
) {
  accessLog.record({ action: 'download', outcome: 'denied', reason, resource: resource.slice(0, 100), ip });
  return reply.code(status).type('text/plain; charset=utf-8').send(WORDS[reason]);
}

const WORDS: Readonly<Record<string, string>> = {
  signature: 'This link is not valid.\n',
  expired: 'This link has expired.\n',
  gone: 'What this link led to is not there any more.\n',
  used: 'This link has been used up.\n',
  locked: 'This link was locked after too many wrong passwords.\n',
};

/** RFC 6266: a name of plain characters for everybody, and the real one for those who read RFC 8187. */
export function dispositionOf(kind: 'inline' | 'attachment', name: string): string {
  const plain = name.replace(/[^A-Za-z0-9 ._-]/g, '_');
  const real = encodeURIComponent(name.replace(/\p{Surrogate}/gu, '_')).replace(
    /['()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `${kind}; filename="${plain}"; filename*=UTF-8''${real}`;
}
