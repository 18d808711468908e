import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Audit } from '../audit/audit.js';
import { CHANNELS, mayAccess, type Organizations, PRIORITIES, STATUSES } from '../domain/vocabulary.js';
import { momentOf } from '../graphql/as-of.js';
import type { Authentication } from '../graphql/authentication.js';
import type { HistoryEvent } from '../graphql/delivery-presenter.js';
import { ApiError } from '../graphql/errors.js';
import type { InboxReads } from '../graphql/inbox-reads.js';
import type { ReadModels } from '../graphql/read-models.js';
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
} from '../http/export-parameters.js';
import type { Caller, ExportedRow, ExportParts, ExportSource, Refusal } from '../http/exports.js';
import { ATTEMPT_STATUSES } from '../projections/attempts.js';
import { LIST_ORDERS, type ListOrder } from '../projections/cursor.js';
import { BUCKETS } from '../projections/dashboard-query.js';
import type { DeliveryRow } from '../projections/deliveries.js';
import type { LegFilter } from '../projections/legs-query.js';
import { type PageArgs, timeIn } from '../projections/page.js';

/** Rows of one page. */
const PAGE = 200;
/** Each costs the reading of a stream. */
const STREAMS_PAGE = 50;

interface PageOf<Node> {
  readonly edges: readonly { readonly cursor: string; readonly node: Node }[];
  readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
}

type ListOf<Node> = (asked: PageArgs) => Promise<PageOf<Node>>;

/** Every list that can be had as a file: the queries of the same names, asked page by page. */
export function exportSources(
  reads: ReadModels,
  inboxes: InboxReads,
  audit: Audit,
): Readonly<Record<string, ExportSource>> {
  return {
    deliveries: {
      requirement: { needs: 'VIEW_DELIVERY' },
      columns: [
        ...['id', 'organizationId', 'status', 'priority', 'channels', 'destinationIds', 'tags', 'correlationId'],
        ...['idempotencyKey', 'metadata', 'requestedAt', 'scheduledAt', 'expiresAt', 'completedAt', 'attempts'],
        ...['deadLettered', 'errorCategory', 'errorCode', 'errorMessage', 'holds', 'legs', 'revision', 'position'],
      ],
      async *pages(caller, parameters) {
        const { at, position: point, order, ...filter } = parsed(deliveryShape, parameters);
        const moment = at || point !== null ? momentOf({ at, position: point }) : undefined;
        yield* each<DeliveryNode>(
          { first: PAGE, order },
          moment
            ? (page) => reads.pastDeliveries(caller, moment, filter, page)
            : ending((page) => reads.deliveries(caller, filter, page)),
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
        const { order, ...filter } = parsed(attemptShape, parameters);
        yield* each(
          { first: PAGE, order },
          ending((page) => reads.attempts(caller, filter, page)),
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
        const { order, ...filter } = parsed(shape, parameters);
        yield* each(
          { first: STREAMS_PAGE, order },
          ending((page) => reads.compliance(caller, filter, page)),
          (record) => ({ ...record }),
        );
      },
    },
    'subject-report': {
      requirement: { needs: 'VIEW_AUDIT' },
      columns: [
        ...['kind', 'id', 'organizationId', 'status', 'priority', 'channels', 'destinationIds', 'tags'],
        ...['correlationId', 'metadata', 'requestedAt', 'completedAt', 'legs', 'history'],
        ...['downloadAccesses', 'message', 'suppression'],
      ],
      async *pages(caller, parameters) {
        const { organizationId, subject } = parsed(subjectShape, parameters);
        const filter = { organizationId, subject };
        yield* each(
          { first: STREAMS_PAGE },
          (page) => reads.deliveries(caller, filter, page),
          async (node) => ({
            ...{ ...deliveryLine(node), kind: 'delivery' },
            history: (await node.history()).map(eventLine),
            downloadAccesses: await node.downloadAccesses(),
          }),
        );
        const scope = within(caller, organizationId);
        for (let before: bigint | undefined; ; ) {
          const { messages, hasMore } = await inboxes.held(caller, scope, subject, PAGE, before);
          yield messages.map(({ id, organizationId, ...message }) => ({
            kind: 'message',
            id,
            organizationId,
            message,
          }));
          if (!hasMore) break;
          before = BigInt(messages.at(-1)?.place ?? 0);
        }
        yield (await reads.suppressionsOf(caller, scope, subject)).map(({ id, organizationId, ...suppression }) => ({
          ...{ kind: 'suppression', id, organizationId, suppression },
        }));
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
        const { organizationId, order, ...filter } = parsed(auditShape, parameters);
        const scope = within(caller, organizationId);
        const direction = order === 'OLDEST_FIRST' ? 'asc' : 'desc';
        // As with every list, the oldest first ends where the trail ends now.
        const [newest] = direction === 'asc' ? (await audit.trail.page({}, 'all', { size: 1 })).entries : [];
        const last = newest?.index ?? Number.MAX_SAFE_INTEGER;
        for (let after: number | undefined; ; ) {
          const { entries, next } = await audit.trail.page(filter, scope, { size: PAGE, direction, after });
          const own = entries.filter(({ index }) => index <= last);
          yield own.map((entry) => ({ ...entry, position: String(entry.position) }));
          if (next === undefined || next >= last) return;
          after = next;
        }
      },
    },
  };
}

const order = { order: oneOf(LIST_ORDERS) };
const deliveryShape = {
  ...order,
  ...{ organizationId: text, status: several(STATUSES), channel: oneOf(CHANNELS), destinationId: text, tag: text },
  ...{ correlationId: text, deadLettered: flag, awaitingApproval: flag, approver: text },
  ...{ requestedAfter: optional(time), requestedBefore: optional(time) },
  ...{ at: optional(time), position: optional(position) },
};
/** The name that stands for a person in the log, as `subjectReport` has it: nobody's address gets into logs of proxies. */
const subjectShape = { organizationId: text, subject: name };
const attemptShape = {
  ...order,
  ...{ organizationId: text, channel: oneOf(CHANNELS), provider: text, status: several(ATTEMPT_STATUSES) },
  ...{ startedAfter: optional(time), startedBefore: optional(time) },
};
const legShape = {
  ...order,
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
  ...order,
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

const legPages = (
  reads: ReadModels,
  caller: Caller,
  { order, ...filter }: LegFilter & { readonly order: ListOrder | null },
) =>
  each(
    { first: PAGE, order },
    ending((page) => reads.legs(caller, filter, page)),
    (row) => ({ ...row }),
  );

/**
 * The oldest first, a list grows at its end as long as others write: it ends with what is the newest when it is first
 * asked for, so that an export has an end.
 */
function ending<Node>(list: ListOf<Node>): ListOf<Node> {
  let until: string | undefined;
  return async (asked) => {
    if (asked.order !== 'OLDEST_FIRST') return await list(asked);
    if (until === undefined) {
      const [newest] = (await list({ first: 1, order: 'NEWEST_FIRST' })).edges;
      until = newest ? timeIn(newest.cursor) : '';
    }
    const last = until;
    const { edges, pageInfo } = await list(asked);
    const own = edges.filter(({ cursor }) => timeIn(cursor) <= last);
    return { edges: own, pageInfo: { ...pageInfo, hasNextPage: pageInfo.hasNextPage && own.length === edges.length } };
  };
}

async function* each<Node>(
  asked: PageArgs,
  list: ListOf<Node>,
  lineOf: (node: Node) => ExportedRow | Promise<ExportedRow>,
): AsyncGenerator<ExportedRow[]> {
  for (let after: string | undefined; ; ) {
    const { edges, pageInfo } = await list({ ...asked, after });
    yield await Promise.all(edges.map(({ node }) => lineOf(node)));
    if (!pageInfo.hasNextPage || pageInfo.endCursor === null) return;
    after = pageInfo.endCursor;
  }
}

type DeliveryNode = DeliveryRow & { history: unknown; timeline: unknown; asOf: unknown };

/** `attempts` is a number here; the error is that of the first leg that has one. */
function deliveryLine({ history: _h, asOf: _a, ...row }: DeliveryNode): ExportedRow {
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
