import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ProviderReports, ReportSource } from '../commands/provider-reports.js';
import type { ProviderReport } from '../domain/vocabulary.js';

/** What comes back by the links in mail (src/channels/email/tracking.ts): the same reports that providers post. */

export interface TrackedMessage {
  readonly source: ReportSource;
  /** Whom it went to; missing where several persons got the same message. */
  readonly address?: string;
}

export interface TrackingParts {
  readonly reports: Pick<ProviderReports, 'take'>;
  readonly isGenuine: (kind: 'open' | 'click', attemptKey: string, about: string, signature: string) => boolean;
  /** The message that a link is in; of a way out only if the link is to this very recipient. */
  readonly find: (
    attemptKey: string,
    unsubscribing?: { readonly signature: string },
  ) => Promise<TrackedMessage | undefined>;
  readonly onTrouble: (error: Error) => void;
}

interface Params {
  readonly attempt: string;
  readonly signature: string;
}

const PICTURE = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');
/** Mail programs load a picture several times in a row, and people click twice: one report each. */
const SAME_MS = 10_000;
const BODY_LIMIT = 1_024;
/** Whoever asks for the headers alone has seen nothing. */
const ONLY_GET = { exposeHeadRoute: false };

const page = (title: string, body: string): string =>
  `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="robots" content="noindex"><title>${title}</title><h1>${title}</h1>${body}</html>`;
const ASK = page(
  'Unsubscribe',
  '<p>You will get no more of these messages.</p><form method="post"><button>Unsubscribe</button></form>',
);
const DONE = page('Unsubscribed', '<p>You will get no more of these messages.</p>');
const UNKNOWN = page('Unknown link', '<p>This link is not valid, or not any more.</p>');

export async function serveTracking(server: FastifyInstance, parts: TrackingParts): Promise<void> {
  const report = async (attemptKey: string, kind: 'Opened' | 'Clicked', about: string): Promise<void> => {
    // Whoever looks at a picture or follows a link does not wait for us to have noted it, nor miss it if we cannot.
    try {
      const found = await parts.find(attemptKey);
      if (!found) return;
      const at = new Date();
      const id = `${kind}/${about}/${Math.floor(at.getTime() / SAME_MS)}`;
      await parts.reports.take([reportOf({ kind, id, at, attemptKey }, found)], found.source, at);
    } catch (error) {
      parts.onTrouble(error as Error);
    }
  };
  const html = (reply: FastifyReply, code: number, text: string) =>
    reply
      .code(code)
      .type('text/html; charset=utf-8')
      .header('content-security-policy', "default-src 'none'; form-action 'self'; frame-ancestors 'none'")
      .send(text);

  await server.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: BODY_LIMIT }, (_, body, done) => done(null, body));
    scope.get('/t/open/:attempt/:signature', ONLY_GET, async (request, reply) => {
      const { attempt, signature } = request.params as Params;
      if (!parts.isGenuine('open', attempt, '', signature)) return await reply.code(404).send();
      await report(attempt, 'Opened', '');
      return await reply.type('image/gif').header('cross-origin-resource-policy', 'cross-origin').send(PICTURE);
    });
    scope.get('/t/click/:attempt/:signature', ONLY_GET, async (request, reply) => {
      const { attempt, signature } = request.params as Params;
      const { to } = request.query as { to?: unknown };
      if (typeof to !== 'string' || !parts.isGenuine('click', attempt, to, signature))
        return await html(reply, 404, UNKNOWN);
      await report(attempt, 'Clicked', to);
      return await reply.code(302).header('location', new URL(to).href).send();
    });
    // Programs look at every link of a mail (RFC 8058, 1): looking must not end anything.
    scope.get('/t/unsubscribe/:attempt/:signature', ONLY_GET, async (request, reply) => {
      const found = await unsubscribing(request);
      return await html(reply, found ? 200 : 404, found ? ASK : UNKNOWN);
    });
    scope.post('/t/unsubscribe/:attempt/:signature', async (request, reply) => {
      const { attempt } = request.params as Params;
      const found = await unsubscribing(request);
      if (found?.address === undefined) return await html(reply, 404, UNKNOWN);
      const at = new Date();
      const optOut = {
        ...reportOf({ kind: 'OptedOut', id: 'OptedOut', at, attemptKey: attempt }, found),
        suppress: true,
      };
      await parts.reports.take([optOut], found.source, at);
      return await html(reply, 200, DONE);
    });
    const unsubscribing = (request: FastifyRequest) => {
      const { attempt, signature } = request.params as Params;
      return parts.find(attempt, { signature });
    };
  });
}

const reportOf = (
  report: Pick<ProviderReport, 'kind' | 'id' | 'at'> & { readonly attemptKey: string },
  { address }: TrackedMessage,
): ProviderReport => ({ ...report, ...(address !== undefined && { address }) });
