import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { FieldProblem } from '../domain/vocabulary.js';
import type { AccessLog } from '../security/access-log.js';
import type { Requirement } from '../security/permissions.js';
import { narrowedTo, type Principal } from '../security/principal.js';
import { csvLine } from './csv.js';

/**
 * `GET /export/<what>.csv` and `.jsonl`: a list as a file, however long it is. It goes page by page, each asked for when the
 * client has taken the one before, so that one page is all that is ever in memory, and no transaction stays open while a
 * slow client reads. What is refused is refused before the first byte; what breaks off later breaks the connection
 * off, so that no half file looks like a whole one.
 */
export interface ExportSource {
  readonly requirement: Requirement;
  /** Names, in their order in a file. */
  readonly columns: readonly string[];
  /**
   * Rows by column, page by page.
   *
   * @param parameters as the address has them; nothing of them was checked
   * @throws whatever `ExportParts.refusalOf` explains
   */
  pages(caller: Caller, parameters: Readonly<Record<string, string>>): AsyncIterable<readonly ExportedRow[]>;
}

export type ExportedRow = Readonly<Record<string, unknown>>;

/** As the API's resolvers know who calls. */
export interface Caller {
  readonly principal: Principal;
  readonly accessLog: AccessLog;
  readonly ip?: string;
}

export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly fields?: readonly FieldProblem[];
  readonly retryAfterSeconds?: number;
}

export interface ExportParts {
  readonly sources: Readonly<Record<string, ExportSource>>;
  /** @throws what `refusalOf` explains, when the credentials are not valid or used too often */
  authenticate(request: FastifyRequest, reply: FastifyReply): Promise<Caller>;
  /** Undefined for what is nobody's fault outside. */
  refusalOf(error: unknown): Refusal | undefined;
  /** Gets what nobody outside is told. */
  failed(error: Error): void;
}

/** Exports at once; each takes a page of memory and the reading of one connection. */
const MOST_AT_ONCE = 8;
const RETRY_AFTER_SECONDS = 10;
/** A client that takes nothing for so long is let go. */
const STALLED_MS = 120_000;
const LONGEST_TEXT = 500;

const TYPES = { csv: 'text/csv; charset=utf-8; header=present', jsonl: 'application/jsonl; charset=utf-8' } as const;
type Format = keyof typeof TYPES;

export async function serveExports(server: FastifyInstance, parts: ExportParts): Promise<void> {
  let running = 0;
  server.route({
    method: 'GET',
    url: '/export/:file',
    exposeHeadRoute: false,
    handler: async (request, reply) => {
      try {
        const caller = await parts.authenticate(request, reply);
        const { what, format, source } = wanted(request, parts.sources);
        const parameters = parametersOf(request.query);
        const principal = narrowedTo(caller.principal, source.requirement);
        const recorded = (known: Readonly<Record<string, string>>) =>
          record(caller, principal, `Export.${what}`, `${what}.${format}`, known);
        if (!principal) {
          recorded({});
          throw refused(403, 'FORBIDDEN', `these credentials do not have the permission ${source.requirement.needs}`);
        }
        if (running >= MOST_AT_ONCE)
          throw refused(429, 'RATE_LIMITED', 'too many exports are under way; wait', RETRY_AFTER_SECONDS);
        running++;
        let isOver = false;
        const over = () => {
          if (!isOver) running--;
          isOver = true;
        };
        try {
          const pages = source.pages({ ...caller, principal }, parameters)[Symbol.asyncIterator]();
          // Whatever is refused is refused here, before anything is sent.
          const first = await pages.next().catch((error: unknown) => {
            recorded({});
            throw error;
          });
          // Only what was understood: anything may stand in an address, an e-mail address too.
          recorded(parameters);
          const lines = Readable.from(linesOf(source.columns, format, first, pages), { objectMode: false });
          lines.on('close', over);
          lines.on('error', (error) => parts.failed(error));
          send(request, reply, lines, `${what}-${new Date().toISOString().slice(0, 10)}.${format}`, format);
          return await reply;
        } catch (error) {
          over();
          throw error;
        }
      } catch (error) {
        return await refuse(reply, error, parts);
      }
    },
  });
}

function wanted(request: FastifyRequest, sources: ExportParts['sources']) {
  const { file } = request.params as { file: string };
  const [, what = '', format = ''] = /^([a-z-]+)\.(csv|jsonl)$/.exec(file) ?? [];
  const source = Object.hasOwn(sources, what) ? sources[what] : undefined;
  if (!source)
    throw refused(404, 'NOT_FOUND', `there are: ${Object.keys(sources).join(', ')}; each as .csv and as .jsonl`);
  return { what, format: format as Format, source };
}

/** One value each; lists are written with commas. */
function parametersOf(query: unknown): Record<string, string> {
  const parameters: Record<string, string> = {};
  for (const [name, value] of Object.entries(query as Record<string, unknown>)) {
    if (typeof value !== 'string')
      throw refused(400, 'BAD_USER_INPUT', `${name}: must be given once`, undefined, [
        { path: name, problem: 'must be given once; separate several values by commas' },
      ]);
    parameters[name] = value;
  }
  return parameters;
}

/** Each organization whose data it is hears of it. */
function record(
  { principal: { actor, organizations }, accessLog, ip }: Caller,
  granted: Principal | undefined,
  action: string,
  file: string,
  parameters: Readonly<Record<string, string>>,
): void {
  const { organizationId, ...others } = parameters;
  const about = new URLSearchParams(others).toString();
  const resource = `${file}${about && `?${about}`}`.slice(0, LONGEST_TEXT);
  const reached = granted?.organizations ?? organizations;
  const whose = organizationId !== undefined ? [organizationId] : reached === 'all' ? [undefined] : reached;
  for (const organization of whose)
    accessLog.record({
      ...{ actor, action, resource, outcome: granted ? 'granted' : 'denied' },
      ...(organization !== undefined && { organizationId: organization }),
      ...(ip !== undefined && { ip }),
      ...(!granted && { reason: 'permission' }),
    });
}

async function* linesOf(
  columns: readonly string[],
  format: Format,
  first: IteratorResult<readonly ExportedRow[]>,
  pages: AsyncIterator<readonly ExportedRow[]>,
): AsyncGenerator<string> {
  try {
    if (format === 'csv') yield csvLine(columns);
    for (let page = first; !page.done; page = await pages.next()) {
      const text = page.value.map((row) => lineOf(columns, format, row)).join('');
      if (text !== '') yield text;
    }
  } finally {
    await pages.return?.();
  }
}

const lineOf = (columns: readonly string[], format: Format, row: ExportedRow): string =>
  format === 'csv'
    ? csvLine(columns.map((name) => row[name]))
    : `${JSON.stringify(Object.fromEntries(columns.map((name) => [name, row[name] ?? null])))}\n`;

function send(request: FastifyRequest, reply: FastifyReply, lines: Readable, filename: string, format: Format): void {
  reply.type(TYPES[format]).header('content-disposition', `attachment; filename="${filename}"`);
  reply.header('vary', 'accept-encoding');
  reply.raw.setTimeout(STALLED_MS, () => lines.destroy(new Error('the client took nothing for too long')));
  if (!takesGzip(request.headers['accept-encoding'])) {
    reply.send(lines);
    return;
  }
  const packed = createGzip();
  lines.on('error', (error) => {
    packed.destroy(error);
    // Whatever came now would be taken for packed.
    reply.raw.destroy();
  });
  packed.on('close', () => lines.destroy());
  reply.header('content-encoding', 'gzip').send(lines.pipe(packed));
}

/** RFC 9110, 12.5.3: named or not excluded by the wildcard, and not with the weight 0. */
export function takesGzip(header: string | string[] | undefined): boolean {
  const codings = String(header ?? '')
    .toLowerCase()
    .split(',')
    .map((coding) => coding.replaceAll(' ', '').split(';'));
  const weight = (name: string) => {
    const found = codings.find(([coding]) => coding === name);
    return found && Number((found.find((part) => part.startsWith('q=')) ?? 'q=1').slice(2));
  };
  return (weight('gzip') ?? weight('*') ?? 0) > 0;
}

class Refused extends Error {
  constructor(readonly refusal: Refusal) {
    super(refusal.message);
  }
}

const refused = (
  status: number,
  code: string,
  message: string,
  retryAfterSeconds?: number,
  fields?: readonly FieldProblem[],
): Refused =>
  new Refused({
    ...{ status, code, message },
    ...(fields && { fields }),
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  });

/** Answered as GraphQL errors are. */
async function refuse(reply: FastifyReply, error: unknown, parts: ExportParts): Promise<unknown> {
  const known = error instanceof Refused ? error.refusal : parts.refusalOf(error);
  if (!known) parts.failed(error as Error);
  const { status, code, message, fields, retryAfterSeconds } = known ?? {
    ...{ status: 500, code: 'INTERNAL', message: 'something went wrong here' },
  };
  if (retryAfterSeconds !== undefined) reply.header('retry-after', retryAfterSeconds);
  const extensions = { code, ...(fields && { fields }), ...(retryAfterSeconds !== undefined && { retryAfterSeconds }) };
  return await reply.code(status).send({ errors: [{ message, extensions }] });
}
