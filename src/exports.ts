import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Audit } from './audit/audit.js';
import { CHANNELS, mayAccess, type Organizations, PRIORITIES, STATUSES } from './domain/vocabulary.js';
import { momentOf } from './graphql/as-of.js';
import type { Authentication } from './graphql/authentication.js';
import type { HistoryEvent } from './graphql/delivery-presenter.js';
import { ApiError } from './graphql/errors.js';
import type { ReadModels } from './graphql/read-models.js';
import {
  BadParameters,
  flag,
  name,
  oneOf,
  optional,
  parsed,
  position,
  several,
  text,
  time,
} from './http/export-parameters.js';
import type { Caller, ExportedRow, ExportParts, ExportSource, Refusal } from './http/exports.js';
import { ATTEMPT_STATUSES } from './projections/attempts.js';
import { BUCKETS } from './projections/dashboard-query.js';
import type { DeliveryRow } from './projections/deliveries.js';

/** Rows of one page. */
const PAGE = 200;
/** Each costs the reading of a stream. */
const STREAMS_PAGE = 50;

interface PageOf<Node> {
  readonly edges: readonly { readonly node: Node }[];
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
}

/** Every list that can be had as a file: the queries of the same names, asked page by page. */
export function exportSources(reads: ReadModels, audit: Audit): Readonly<Record<string, ExportSource>> {
  return {
    deliveries: {
      requirement: { needs: 'VIEW_DELIVERY' },
      columns: [
        ...['id', 'organizationId', 'status', 'priority', 'channels', 'destinationIds', 'tags', 'correlationId'],
        ...['idempotencyKey', 'metadata', 'requestedAt', 'scheduledAt', 'expiresAt', 'completedAt', 'attempts'],
        ...['deadLettered', 'errorCategory', 'errorCode', 'errorMessage', 'holds', 'legs', 'revision', 'position'],
      ],
      async *pages(caller, parameters) {
        const { at, position: point, ...filter } = parsed(deliveryShape, parameters);
        const moment = at || point !== null ? momentOf({ at, position: point }) : undefined;
        yield* each(
          (after) =>
            moment
              ? reads.pastDeliveries(caller, moment, filter, PAGE, after)
              : reads.deliveries(caller, filter, PAGE, after),
          deliveryLine,
        );
      },
    },
    attempts: {
      requirement: { needs: 'VIEW_DELIVERY' },
      columns: [
        ...['id', 'deliveryId', 'organizationId', 'leg', 'number', 'channel', 'provider', 'providerReason'],
        ...['destinationId', 'status', 'startedAt', 'completedAt', 'errorCategory', 'errorCode', 'errorMessage'],
        ...['providerMessageId', 'warning'],
      ],
      async *pages(caller, parameters) {
        const filter = parsed(attemptShape, parameters);
        yield* each(
          (after) => reads.attempts(caller, filter, PAGE, after),
          (row) => ({ ...row, ...errorOf(row.error) }),
        );
      },
    },
    legs: { ...legs, pages: (caller, parameters) => legPages(reads, caller, parsed(legShape, parameters)) },
    'dead-letters': {
      ...legs,
      pages: (caller, parameters) => {
        const { deadLettered: _, ...shape } = legShape;
        return legPages(reads, caller, { ...parsed(shape, parameters), deadLettered: true });
      },
    },
    compliance: {
      requirement: { needs: 'VIEW_AUDIT' },
      columns: [
        ...['deliveryId', 'organizationId', 'deliveryDate', 'status', 'reportClassification', 'recipientList'],
        ...['recipientCount', 'deliveryChannels', 'encryptionUsed', 'watermarkApplied', 'accessControls'],
        ...['approvalWorkflowId', 'approverList', 'approvedBy', 'securityReviewStatus', 'retentionPeriod'],
        ...['expirationDate', 'disposalMethod', 'viewCount', 'downloadCount', 'forwardingCount', 'soxCompliance'],
        ...['gdprCompliance', 'hipaaCompliance', 'riskScore', 'riskFactors'],
      ],
      async *pages(caller, parameters) {
        const { at: _at, position: _position, ...shape } = deliveryShape;
        const filter = parsed(shape, parameters);
        yield* each(
          (after) => reads.compliance(caller, filter, STREAMS_PAGE, after),
          (record) => ({ ...record }),
        );
      },
    },
    'subject-report': {
      requirement: { needs: 'VIEW_AUDIT' },
      columns: [
        ...['id', 'organizationId', 'status', 'priority', 'channels', 'destinationIds', 'tags', 'correlationId'],
        ...['metadata', 'requestedAt', 'completedAt', 'legs', 'history'],
      ],
      async *pages(caller, parameters) {
        const { organizationId, subject } = parsed(subjectShape, parameters);
        const filter = { organizationId, subject };
        yield* each(
          (after) => reads.deliveries(caller, filter, STREAMS_PAGE, after),
          async (node) => ({ ...deliveryLine(node), history: (await node.history()).map(eventLine) }),
        );
      },
    },
    engagement: {
      requirement: { needs: 'VIEW_ANALYTICS' },
      columns: [
        ...['date', 'channel', 'sent', 'bounced', 'opened', 'opens', 'clicked', 'clicks', 'complaints', 'optOuts'],
        ...['openRate', 'clickRate', 'bounceRate', 'complaintRate'],
      ],
      async *pages(caller, parameters) {
        const { organizationId, from, to } = parsed({ organizationId: text, from: time, to: time }, parameters);
        if (from >= to) throw new BadParameters([{ path: 'to', problem: 'must be after from' }]);
        const scope = within(caller, organizationId);
        yield (await reads.performance(caller, 'engagement', scope, { from, to })) as unknown as ExportedRow[];
      },
    },
    dashboard: {
      requirement: { needs: 'VIEW_ANALYTICS' },
      columns: [
        ...['bucket', 'channel', 'total', 'delivered', 'failed', 'pending', 'averageProcessingMs'],
        ...['averageDeliveryMs', 'slaCompliance', 'errorCategories', 'recipients', 'highPriority'],
      ],
      async *pages(caller, parameters) {
        const { organizationId, from, to, bucket } = parsed(dashboardShape, parameters);
        if (from >= to) throw new BadParameters([{ path: 'to', problem: 'must be after from' }]);
        const rows = await reads.dashboard(caller, within(caller, organizationId), from, to, bucket ?? 'day');
        yield rows as unknown as ExportedRow[];
      },
    },
    audit: {
      requirement: { needs: 'VIEW_AUDIT' },
      columns: [
        ...['index', 'position', 'recordedAt', 'organizationId', 'actor', 'action', 'subject', 'outcome', 'reason'],
        ...['address', 'leafHash', 'data'],
      ],
      async *pages(caller, parameters) {
        const { organizationId, ...filter } = parsed(auditShape, parameters);
        const scope = within(caller, organizationId);
        for (let before: number | undefined; ; ) {
          const { entries, next } = await audit.trail.page(filter, scope, PAGE, before);
          yield entries.map((entry) => ({ ...entry, position: String(entry.position) }));
          if (next === undefined) return;
          before = next;
        }
      },
    },
  };
}

const deliveryShape = {
  ...{ organizationId: text, status: several(STATUSES), channel: oneOf(CHANNELS), destinationId: text, tag: text },
  ...{ correlationId: text, deadLettered: flag, awaitingApproval: flag, approver: text },
  ...{ requestedAfter: optional(time), requestedBefore: optional(time) },
  ...{ at: optional(time), position: optional(position) },
};
/** The name that stands for a person in the log, as `subjectReport` has it: nobody's address gets into logs of proxies. */
const subjectShape = { organizationId: text, subject: name };
const attemptShape = {
  ...{ organizationId: text, channel: oneOf(CHANNELS), provider: text, status: several(ATTEMPT_STATUSES) },
  ...{ startedAfter: optional(time), startedBefore: optional(time) },
};
const legShape = {
  ...{
    organizationId: text,
    channel: oneOf(CHANNELS),
    priority: oneOf(PRIORITIES),
    provider: text,
    deadLettered: flag,
  },
  ...{ requestedAfter: optional(time), requestedBefore: optional(time) },
};
const dashboardShape = { organizationId: text, from: time, to: time, bucket: oneOf(BUCKETS) };
const auditShape = {
  ...{ organizationId: text, actor: text, subject: text, delivery: text },
  ...{ from: optional(time), to: optional(time) },
};

const legs = {
  requirement: { needs: 'VIEW_DELIVERY' },
  columns: [
    ...[
      'deliveryId',
      'leg',
      'organizationId',
      'channel',
      'provider',
      'destinationId',
      'priority',
      'status',
      'attempts',
    ],
    ...[
      'requestedAt',
      'firstAttemptAt',
      'sentAt',
      'dueAt',
      'errorCategory',
      'errorCode',
      'deadLettered',
      'opens',
      'clicks',
      'complaints',
      'optOuts',
      'updatedAt',
    ],
  ],
} as const;

const legPages = (reads: ReadModels, caller: Caller, filter: Parameters<ReadModels['legs']>[1]) =>
  each(
    (after) => reads.legs(caller, filter, PAGE, after),
    (row) => ({ ...row }),
  );

async function* each<Node>(
  list: (after: string | undefined) => Promise<PageOf<Node>>,
  lineOf: (node: Node) => ExportedRow | Promise<ExportedRow>,
): AsyncGenerator<ExportedRow[]> {
  for (let after: string | undefined; ; ) {
    const { edges, pageInfo } = await list(after);
    yield await Promise.all(edges.map(({ node }) => lineOf(node)));
    if (!pageInfo.hasNextPage || pageInfo.endCursor === null) return;
    after = pageInfo.endCursor;
  }
}

/** `attempts` is a number here; the error is that of the first leg that has one. */
function deliveryLine({
  history: _h,
  asOf: _a,
  ...row
}: DeliveryRow & { history: unknown; timeline: unknown; asOf: unknown }): ExportedRow {
  const failing = row.legs.find(({ failure }) => failure)?.failure ?? null;
  return { ...row, attempts: row.legs.reduce((sum, leg) => sum + leg.attempts, 0), ...errorOf(failing) };
}

const eventLine = ({ position: at, ...event }: HistoryEvent): ExportedRow => ({ position: String(at), ...event });

const errorOf = (error: { readonly category: string; readonly code: string; readonly message: string } | null) => ({
  errorCategory: error?.category ?? null,
  errorCode: error?.code ?? null,
  errorMessage: error?.message ?? null,
});

const within = ({ principal }: Caller, organizationId: string | null): Organizations =>
  organizationId === null
    ? principal.organizations
    : mayAccess(principal.organizations, organizationId)
      ? [organizationId]
      : [];

/** Who asks, as the API finds it out. */
export const authenticateWith =
  (authentication: Authentication): ExportParts['authenticate'] =>
  async (request: FastifyRequest, reply: FastifyReply) => {
    const context = await authentication.http(request);
    await authentication.guard(undefined, undefined, { ...context, reply });
    return context as Caller;
  };

const STATUS_OF: Readonly<Record<string, number>> = {
  ...{ UNAUTHENTICATED: 401, FORBIDDEN: 403, NOT_FOUND: 404, BAD_USER_INPUT: 400, CONFLICT: 409, RATE_LIMITED: 429 },
  UNAVAILABLE: 503,
};

export function exportRefusal(error: unknown): Refusal | undefined {
  if (error instanceof BadParameters)
    return { status: 400, code: 'BAD_USER_INPUT', message: error.message, fields: error.fields };
  if (!(error instanceof ApiError)) return undefined;
  const { code, fields, retryAfterSeconds } = error.extensions as unknown as Omit<Refusal, 'status' | 'message'>;
  const when = retryAfterSeconds !== undefined && { retryAfterSeconds };
  return { status: STATUS_OF[code] ?? 500, code, message: error.message, ...(fields && { fields }), ...when };
}
