import type { Failure, Instant } from './vocabulary.js';

/** What providers report of a message after they have accepted it, as far as a leg remembers it. */

/** What identifies a report, and what it is about. */
export interface Report {
  readonly leg: number;
  /** The round and the route of the attempt that it is about. */
  readonly round: number;
  readonly route: number;
  readonly provider: string;
  /** A digest of the provider's own id of the report: the same report again is no news. */
  readonly reportId: string;
  /** By the provider's clock. */
  readonly happenedAt: Instant;
  /** Which recipient, as a digest that means nothing outside this delivery. */
  readonly recipient: string;
}

export type ReportKind = 'Delivered' | 'Bounced' | 'Complained' | 'Opened' | 'Clicked' | 'OptedOut';

/** Delivery state and engagement are apart: `delivered` and `bounced` decide the status, the rest never does. */
export interface LegReports {
  /** Digests of the reports that are recorded. */
  readonly seen: readonly string[];
  /** Recipients on the current route, each once. */
  readonly delivered: readonly string[];
  /** Recipients on the current route, each once, in the order of their digests. */
  readonly bounced: readonly { readonly recipient: string; readonly failure: Failure }[];
  readonly opens: number;
  readonly clicks: number;
  readonly complaints: number;
  readonly optOuts: number;
  readonly firstOpenedAt?: Instant;
  readonly firstClickedAt?: Instant;
}

/** Reports of one leg that are remembered: beyond it opens and clicks are not recorded any more. */
export const REPORT_LIMIT = 200;

export const unreported: LegReports = {
  seen: [],
  delivered: [],
  bounced: [],
  opens: 0,
  clicks: 0,
  complaints: 0,
  optOuts: 0,
};

/** The reports of a leg that begins anew, on another route or in another round: whom it reached before says nothing. */
export const begunAnew = (reports: LegReports): LegReports => ({ ...reports, delivered: [], bounced: [] });

/** Takes in one report. The result does not depend on the order in which reports come. */
export function withReport(
  reports: LegReports,
  kind: ReportKind,
  report: Report & { readonly failure?: Failure },
  isCurrent: boolean,
): LegReports {
  const { reportId, recipient, happenedAt, failure } = report;
  const next = { ...reports, seen: [...reports.seen, reportId] };
  switch (kind) {
    case 'Delivered':
      return isCurrent && !reports.delivered.includes(recipient)
        ? { ...next, delivered: [...reports.delivered, recipient].sort() }
        : next;
    case 'Bounced':
      return isCurrent && failure ? { ...next, bounced: withBounce(reports.bounced, { recipient, failure }) } : next;
    case 'Opened':
      return { ...next, opens: reports.opens + 1, firstOpenedAt: earlier(reports.firstOpenedAt, happenedAt) };
    case 'Clicked':
      return { ...next, clicks: reports.clicks + 1, firstClickedAt: earlier(reports.firstClickedAt, happenedAt) };
    case 'Complained':
      return { ...next, complaints: reports.complaints + 1 };
    case 'OptedOut':
      return { ...next, optOuts: reports.optOuts + 1 };
  }
}

/** Of two bounces of one recipient the one with the smaller code counts, whichever came first. */
function withBounce(bounced: LegReports['bounced'], bounce: LegReports['bounced'][number]): LegReports['bounced'] {
  const others = bounced.filter(({ recipient }) => recipient !== bounce.recipient);
  const before = bounced.find(({ recipient }) => recipient === bounce.recipient);
  const kept = before && wordsOf(before.failure) <= wordsOf(bounce.failure) ? before : bounce;
  return [...others, kept].sort((a, b) => (a.recipient < b.recipient ? -1 : 1));
}

const wordsOf = ({ code, category, message }: Failure): string => `${code} ${category} ${message}`;
const earlier = (a: Instant | undefined, b: Instant): Instant => (a !== undefined && a < b ? a : b);

/**
 * What the reports make of a leg that was sent to so many recipients: bounced as soon as one of them has bounced, also if
 * it was reported as delivered before; delivered when all are.
 */
export function verdictOf({ delivered, bounced }: LegReports, recipients: number): 'bounced' | 'delivered' | undefined {
  if (bounced.length > 0) return 'bounced';
  return delivered.length >= recipients ? 'delivered' : undefined;
}
