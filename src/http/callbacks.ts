import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ApprovalAnswer, ApprovalAnswers } from '../commands/approval-answers.js';
import type { ProviderReports, ReportSource } from '../commands/provider-reports.js';
import type { ProviderReport } from '../domain/vocabulary.js';
import type { AccessLog } from '../security/access-log.js';

/**
 * Where providers post what became of messages: `/callbacks/<provider>/<destination>`, the destination being the id of one
 * or the name of a provider of the instance's configuration. Nobody logs in here: each request is signed in the
 * provider's own way, and one that is not is refused and told to the access log.
 */
export interface CallbackDoor {
  readonly source: ReportSource;
  /** Makes sure that it is from the provider, and reads it. */
  read(request: CallbackHttpRequest): Promise<ReadCallback>;
}

export interface CallbackHttpRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: { readonly [name: string]: string | string[] | undefined };
  readonly body: Buffer;
  readonly now: Date;
}

export type ReadCallback =
  | {
      readonly kind: 'verified';
      readonly reports: readonly ProviderReport[];
      readonly reply?: { readonly contentType: string; readonly body: string };
      readonly answer?: ApprovalAnswer;
    }
  | { readonly kind: 'refused'; readonly reason: string };

export interface CallbackParts {
  readonly reports: ProviderReports;
  readonly answers: Pick<ApprovalAnswers, 'take'>;
  readonly accessLog: AccessLog;
  /** Undefined where there is no such destination, or nothing that could verify a callback. */
  readonly find: (provider: string, destination: string) => Promise<CallbackDoor | undefined>;
  /** As the providers know it, without a slash at the end; undefined: as the request says. */
  readonly publicUrl: string | undefined;
}

/** SendGrid posts up to 768 kB at once; nobody posts more. */
const BODY_LIMIT = 1_048_576;
/** Seconds after which a report that came too early is to be sent again. */
const RETRY_AFTER = '10';

export async function serveCallbacks(server: FastifyInstance, parts: CallbackParts): Promise<void> {
  await server.register(async (scope) => {
    // Signatures cover the bytes as they came, so nothing may parse them before.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: BODY_LIMIT }, (_, body, done) => done(null, body));
    scope.route({
      method: ['GET', 'POST'],
      url: '/callbacks/:provider/:destination',
      handler: async (request, reply) => {
        const { provider, destination } = request.params as { provider: string; destination: string };
        const door = await parts.find(provider, destination);
        if (!door) return await reply.code(404).send();
        const now = new Date();
        const read = await door.read({
          method: request.method,
          url: urlOf(request, parts.publicUrl),
          headers: request.headers,
          body: Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0),
          now,
        });
        const refuse = (reason: string) =>
          parts.accessLog.record({
            action: `callback.${door.source.provider}`,
            outcome: 'denied',
            reason,
            resource: destination,
            ip: request.ip,
            ...(door.source.organizationId !== undefined && { organizationId: door.source.organizationId }),
          });
        if (read.kind === 'refused') {
          refuse(read.reason);
          return await reply.code(403).send();
        }
        if (read.answer) {
          const refusal = await parts.answers.take(read.answer, door.source);
          if (refusal !== undefined) refuse(refusal);
          return await reply.code(200).send();
        }
        const early = await parts.reports.take(read.reports, door.source, now);
        if (early > 0) return await reply.code(503).header('retry-after', RETRY_AFTER).send();
        if (read.reply) return await reply.type(read.reply.contentType).send(read.reply.body);
        return await reply.code(204).send();
      },
    });
  });
}

const urlOf = (request: FastifyRequest, publicUrl: string | undefined): string =>
  `${publicUrl ?? `${request.protocol}://${request.host}`}${request.url}`;
