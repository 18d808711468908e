import type { ApprovalRule, DeliveryEvent, DeliveryRequested } from '../domain/delivery-events.js';
import type { DownloadEvent } from '../domain/download.js';
import { classKeptUnder, type RetentionState } from '../domain/retention.js';
import type { Channel, Instant, Json, Status } from '../domain/vocabulary.js';
import { type DeliveryRow, deliveryRow } from './deliveries.js';
import type { PastDelivery } from './past.js';

/**
 * What a compliance officer asks of one delivery (seed 0, compliance_delivery_report), found out from its stream, from those of
 * the files it offered for download, and from how long its organization keeps things.
 * Null stands for what no event tells in this version of the product; it is never guessed. It is evidence for an
 * assessment: whether it satisfies a law is not for a program to say.
 */
export interface ComplianceRecord {
  readonly deliveryId: string;
  readonly organizationId: string;
  readonly deliveryDate: Instant;
  readonly status: Status;
  /** As the requester has said it in `metadata.classification`: PII, PHI, FINANCIAL and words of their own. */
  readonly reportClassification: readonly string[];
  /** By names that tell nobody who they are; a destination by its id. */
  readonly recipientList: readonly string[];
  readonly recipientCount: number;
  readonly deliveryChannels: readonly Channel[];
  readonly encryptionUsed: readonly string[];
  readonly watermarkApplied: boolean | null;
  readonly accessControls: readonly string[];
  /** A rule of a delivery has the delivery's own id. */
  readonly approvalWorkflowId: string | null;
  readonly approverList: readonly string[];
  readonly approvedBy: readonly string[];
  readonly securityReviewStatus: ReviewStatus;
  readonly retentionPeriod: string;
  readonly expirationDate: Instant | null;
  /** How it has been disposed of, if it has. */
  readonly disposalMethod: string | null;
  readonly viewCount: number;
  readonly downloadCount: number | null;
  readonly forwardingCount: number | null;
  readonly soxCompliance: Evidence;
  readonly gdprCompliance: Evidence;
  readonly hipaaCompliance: Evidence;
  /** From 0 to 100: the factors together. */
  readonly riskScore: number;
  readonly riskFactors: readonly RiskFactor[];
}

export type ReviewStatus = 'NOT_REQUIRED' | 'PENDING' | 'APPROVED' | 'REJECTED' | 'TIMED_OUT';

/** Which controls a set of rules looks for in a delivery it concerns, and which of them are there. */
export interface Evidence {
  /** False where the classification does not say that it is concerned. */
  readonly applies: boolean;
  /** Null where it does not apply. */
  readonly isComplete: boolean | null;
  readonly controls: readonly { readonly control: string; readonly isMet: boolean }[];
}

export interface RiskFactor {
  readonly factor: string;
  readonly points: number;
  /** Why it counts. */
  readonly reason: string;
}

/** What other streams than its own tell of a delivery. */
export interface Surroundings {
  /** For each download it has offered: what happened at the links. */
  readonly downloads: readonly (readonly DownloadEvent[])[];
  /** Of its organization, now. */
  readonly retention: RetentionState;
}

const MOST_POINTS = 100;

interface Facts {
  readonly row: DeliveryRow;
  readonly request: DeliveryRequested['data'];
  readonly requester: string;
  readonly events: readonly DeliveryEvent[];
  readonly classification: readonly string[];
  readonly isSensitive: boolean;
  readonly approvedBy: readonly string[];
  readonly isSealed: boolean;
}

/** @param delivery all of its stream that is understood */
export function complianceRecord(delivery: PastDelivery, { downloads, retention }: Surroundings): ComplianceRecord {
  const facts = factsOf(delivery);
  const fetched = fetchedFrom(downloads);
  const { id } = delivery.view;
  const { row, request, classification, approvedBy } = facts;
  const riskFactors = RISKS.flatMap(({ factor, reason, points }) => {
    const found = points(facts);
    return found > 0 ? [{ factor, points: found, reason }] : [];
  });
  return {
    deliveryId: id,
    organizationId: row.organizationId,
    deliveryDate: row.completedAt ?? row.requestedAt,
    status: row.status,
    reportClassification: classification,
    recipientList: [...row.subjects, ...row.destinationIds],
    recipientCount: request.legs.reduce((sum, { recipients }) => sum + recipients, 0),
    deliveryChannels: row.channels,
    encryptionUsed: facts.isSealed ? ['in the log: AES-256-GCM'] : [],
    watermarkApplied: null,
    accessControls: accessControls(request),
    approvalWorkflowId: request.approval ? id : null,
    approverList: request.approval?.approvers ?? [],
    approvedBy,
    securityReviewStatus: reviewOf(request.approval, facts.events, approvedBy),
    retentionPeriod: periodOf(request.subject, retention),
    expirationDate: row.expiresAt,
    disposalMethod: request.erased ? 'keys destroyed' : null,
    viewCount: row.legs.reduce((sum, { engagement }) => sum + (engagement?.opens ?? 0), fetched?.views ?? 0),
    downloadCount: fetched?.downloads ?? null,
    forwardingCount: null,
    soxCompliance: evidence(classification.includes('FINANCIAL'), [
      ['every step is recorded, with who did it', facts.events.length > 0],
      ['somebody else than the requester has approved it', approvedBy.some((approver) => approver !== facts.requester)],
      ['what became of it is known', row.completedAt !== null && !row.holds.some(({ reason }) => reason === 'doubt')],
    ]),
    gdprCompliance: evidence(classification.includes('PII') || row.subjects.length > 0, [
      ['personal data is sealed in the log', facts.isSealed],
      ['everybody it is to can be found and forgotten', routesOf(request).every(isNamed)],
      ['its use ends by itself (expiresAt)', row.expiresAt !== null],
    ]),
    hipaaCompliance: evidence(classification.includes('PHI'), [
      ['it is sealed in the log', facts.isSealed],
      ['every recipient is known by name or destination', routesOf(request).every(isNamed)],
      ['it went over no channel that anybody on the way can read', !row.channels.some((channel) => OPEN.has(channel))],
      ['access was limited by an approval or an end', request.approval !== undefined || row.expiresAt !== null],
    ]),
    riskScore: Math.min(
      MOST_POINTS,
      riskFactors.reduce((sum, { points }) => sum + points, 0),
    ),
    riskFactors,
  };
}

/** Uses of links that Waybill serves; undefined where there are none, or a provider serves some, and does not tell. */
function fetchedFrom(
  downloads: Surroundings['downloads'],
): { readonly views: number; readonly downloads: number } | undefined {
  const events = downloads.flat();
  const isElsewhere = events.some((event) => event.type === 'DownloadOffered' && event.data.provider !== undefined);
  if (events.length === 0 || isElsewhere) return undefined;
  const uses = (mode: 'view' | 'download') =>
    events.filter(({ type, data }) => type === 'DownloadAccessed' && data.isCounted && data.mode === mode).length;
  return { views: uses('view'), downloads: uses('download') };
}

/** How long content and addresses are kept; the record that it was delivered stays as long as the log. */
function periodOf(subject: string | undefined, { classes }: RetentionState): string {
  const name = subject === undefined ? undefined : classKeptUnder(subject);
  const keep = classes.find((one) => one.name === name)?.keep ?? 'until erased';
  return name === undefined ? keep : `${keep} (${name})`;
}

/** Channels whose carriers see the message. */
const OPEN: ReadonlySet<Channel> = new Set<Channel>(['SMS', 'VOICE']);
const SENSITIVE = ['PHI', 'FINANCIAL', 'PII'];
const MANY = 10;
const VERY_MANY = 100;

/** In the order in which they are shown. Points are a matter of judgement, and the same for everybody. */
const RISKS: readonly {
  readonly factor: string;
  readonly reason: string;
  readonly points: (facts: Facts) => number;
}[] = [
  {
    factor: 'sensitive-content',
    reason: 'the requester classified it as PHI (30), FINANCIAL or PII (20)',
    points: ({ classification, isSensitive }) => (classification.includes('PHI') ? 30 : isSensitive ? 20 : 0),
  },
  {
    factor: 'not-approved',
    reason: 'it is sensitive, and nobody but its requester has approved it',
    points: ({ isSensitive, approvedBy, requester }) =>
      isSensitive && !approvedBy.some((approver) => approver !== requester) ? 20 : 0,
  },
  {
    factor: 'self-approved',
    reason: 'its requester is among those who approved it',
    points: ({ approvedBy, requester }) => (approvedBy.includes(requester) ? 10 : 0),
  },
  {
    factor: 'open-channel',
    reason: 'it is sensitive, and a channel was planned whose carriers can read it (SMS, voice)',
    points: ({ isSensitive, row }) => (isSensitive && row.channels.some((channel) => OPEN.has(channel)) ? 15 : 0),
  },
  {
    factor: 'unlisted-address',
    reason: 'it goes to an address that no destination and no person stands behind',
    points: ({ request }) => (routesOf(request).every(isNamed) ? 0 : 10),
  },
  {
    factor: 'many-recipients',
    reason: `it reaches more than ${MANY} (5) or more than ${VERY_MANY} (10)`,
    points: ({ request }) => {
      const count = request.legs.reduce((sum, { recipients }) => sum + recipients, 0);
      return count > VERY_MANY ? 10 : count > MANY ? 5 : 0;
    },
  },
  {
    factor: 'no-end',
    reason: 'it is sensitive and never expires',
    points: ({ isSensitive, request }) => (isSensitive && request.expiresAt === undefined ? 5 : 0),
  },
  {
    factor: 'in-doubt',
    reason: 'a call to a provider was left in doubt, so it may have arrived twice or not at all',
    points: ({ events }) => (events.some(({ type }) => type === 'AttemptInDoubt') ? 10 : 0),
  },
  {
    factor: 'another-way',
    reason: 'it went over another route than was planned first',
    points: ({ events }) => (events.some(({ type }) => type === 'FallbackChosen') ? 5 : 0),
  },
  {
    factor: 'bounced-or-complained',
    reason: 'an address was wrong, or the recipient complained',
    points: ({ events }) => (events.some(({ type }) => type === 'Bounced' || type === 'Complained') ? 5 : 0),
  },
  {
    factor: 'steps-skipped',
    reason: 'an operator let it go on without an event of its history',
    points: ({ events }) => (events.some(({ type }) => type === 'EventSkipped') ? 10 : 0),
  },
];

function factsOf({ view, events: decoded }: PastDelivery): Facts {
  const events = decoded.map(({ event }) => event);
  const [first] = decoded;
  if (first?.event.type !== 'DeliveryRequested') throw new Error(`delivery ${view.id} does not begin with its request`);
  const request = first.event.data;
  const classification = classificationOf(request.metadata);
  return {
    row: deliveryRow(view),
    request,
    requester: first.recorded.metadata.actor ?? 'unknown',
    events,
    classification,
    isSensitive: SENSITIVE.some((word) => classification.includes(word)),
    approvedBy: events.flatMap((event) => (event.type === 'ApprovalGranted' ? [event.data.approver] : [])),
    isSealed: first.recorded.data.sealed !== undefined,
  };
}

/** One word or a list of them, in any case. */
function classificationOf(metadata: Json | undefined): string[] {
  const said = metadata && typeof metadata === 'object' && 'classification' in metadata ? metadata.classification : [];
  const words = (Array.isArray(said) ? said : [said]).filter((word): word is string => typeof word === 'string');
  return [...new Set(words.map((word) => word.toUpperCase()))].sort();
}

const routesOf = ({ legs }: DeliveryRequested['data']) => legs.flatMap(({ routes }) => routes);
const isNamed = ({ destinationId, subject }: { readonly destinationId?: string; readonly subject?: string }): boolean =>
  destinationId !== undefined || subject !== undefined;

function accessControls({ approval, expiresAt }: DeliveryRequested['data']): string[] {
  return [
    ...(approval ? [`approval by ${approval.minimum} of ${approval.approvers.length}`] : []),
    ...(expiresAt === undefined ? [] : [`not after ${expiresAt}`]),
  ];
}

function reviewOf(
  approval: ApprovalRule | undefined,
  events: readonly DeliveryEvent[],
  approvedBy: readonly string[],
): ReviewStatus {
  if (!approval) return 'NOT_REQUIRED';
  if (events.some(({ type }) => type === 'ApprovalRejected')) return 'REJECTED';
  if (events.some(({ type }) => type === 'ApprovalTimedOut')) return 'TIMED_OUT';
  return new Set(approvedBy).size >= approval.minimum ? 'APPROVED' : 'PENDING';
}

function evidence(applies: boolean, controls: readonly (readonly [string, boolean])[]): Evidence {
  const found = controls.map(([control, isMet]) => ({ control, isMet }));
  return { applies, isComplete: applies ? found.every(({ isMet }) => isMet) : null, controls: applies ? found : [] };
}
