import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { DeliveryEvent, DeliveryRequested } from '../../../src/domain/delivery-events.js';
import type { DownloadEvent } from '../../../src/domain/download.js';
import type { ReportKind } from '../../../src/domain/reports.js';
import { complianceRecord } from '../../../src/projections/compliance.js';
import { DeliveryQueries } from '../../../src/projections/deliveries-query.js';
import { foldedTo, type PastDelivery } from '../../../src/projections/past.js';
import { PerformanceQueries } from '../../../src/projections/performance-query.js';
import { timelineOf } from '../../../src/projections/timeline.js';
import { at, failed, newDelivery, requested, sent, World } from './world.js';

// All in a real database, which a busy machine makes slow.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 120_000 });

let world: World;
const ids = new Map<string, string>();

async function record(name: string, data: Partial<DeliveryRequested['data']>, ...after: DeliveryEvent[]) {
  const { id, stream } = newDelivery();
  ids.set(name, id);
  await world.record(stream, requested({ organizationId: 'ours', ...data }), ...after);
}
const mail = {
  legs: [{ leg: 1, routes: [{ channel: 'EMAIL', address: 'a@b.c', subject: 's' }], recipients: 1 }],
} as const;
const accepted: DeliveryEvent = {
  type: 'AttemptSucceeded',
  at: at(2),
  data: { leg: 1, number: 1, route: 0, channel: 'EMAIL', provider: 'ses', startedAt: at(1), delivered: false },
};
let reports = 0;
const report = (type: ReportKind, seconds: number): DeliveryEvent =>
  ({
    type,
    at: at(seconds + 1),
    data: {
      ...{
        leg: 1,
        round: 0,
        route: 0,
        provider: 'ses',
        reportId: `report-${reports++}`,
        happenedAt: at(seconds),
        recipient: 'r',
      },
      ...(type === 'Bounced' && { failure: { category: 'PERMANENT', code: 'NO_MAILBOX', message: 'nobody there' } }),
    },
  }) as DeliveryEvent;
const approval = { approvers: ['ada', 'bob'], minimum: 2 };
const granted = (approver: string): DeliveryEvent => ({ type: 'ApprovalGranted', at: at(3), data: { approver } });

beforeAll(async () => {
  world = await World.create();
  await record(
    'read',
    mail,
    accepted,
    report('Delivered', 5),
    report('Opened', 6),
    report('Opened', 7),
    report('Clicked', 8),
  );
  await record('bounced', mail, accepted, report('Bounced', 5));
  await record('hated', mail, accepted, report('Opened', 6), report('Complained', 9), report('OptedOut', 9));
  await record('posted', {}, ...failed(1), sent(2, 20));
  await record('theirs', { ...mail, organizationId: 'theirs' }, accepted, report('Opened', 6));
  await record('kept', { organizationId: 'kept', subject: 'kept:2026-03-08:phi:person:x' });
  await record('for both', { approval });
  await record('for bob', { approval }, granted('ada'));
  await record('sensitive', {
    metadata: { classification: ['phi', 'Financial'] },
    legs: [{ leg: 1, routes: [{ channel: 'SMS', address: '+12025550100' }], recipients: 11 }],
  });
  await record(
    'careful',
    {
      ...mail,
      metadata: { classification: 'FINANCIAL' },
      approval: { approvers: ['test', 'ada'], minimum: 1 },
      expiresAt: at(900),
    },
    granted('ada'),
    accepted,
    report('Delivered', 5),
  );
  const runner = world.runner();
  runner.start();
  await world.shown(runner);
});
afterAll(() => world.close());

const span = { from: at(-3_600), to: at(3_600) };
const deliveryOf = async (name: string): Promise<PastDelivery> => {
  const id = ids.get(name) as string;
  return foldedTo(world.codec, id, await world.log.readStream(`delivery-${id}`), () => true) as PastDelivery;
};

describe('engagement', () => {
  it('is counted by day and channel, of one organization or all', async () => {
    const queries = new PerformanceQueries(world.reads);
    const [day, ...others] = (await queries.engagement(['ours'], span)).filter(({ channel }) => channel === 'EMAIL');
    expect(others).toEqual([]);
    expect(day).toEqual({
      ...{ date: '2026-03-02T00:00:00.000Z', channel: 'EMAIL', sent: 4, bounced: 1 },
      ...{ opened: 2, opens: 3, clicked: 1, clicks: 1, complaints: 1, optOuts: 1 },
      ...{ openRate: 0.5, clickRate: 0.25, bounceRate: 0.25, complaintRate: 0.25 },
    });
    const all = await queries.engagement('all', span);
    expect(all.find(({ channel }) => channel === 'EMAIL')).toMatchObject({ sent: 5, opens: 4 });
    expect(await queries.engagement(['nobody'], span)).toEqual([]);
  });
});

describe('approvals', () => {
  it('wait for those who have not given theirs', async () => {
    const queries = new DeliveryQueries(world.reads);
    const names = async (approver: string) =>
      (await queries.list({ approver }, ['ours'])).edges
        .map(({ node }) => [...ids].find(([, id]) => id === node.id)?.[0])
        .sort();
    expect(await names('ada')).toEqual(['for both']);
    expect(await names('bob')).toEqual(['for bob', 'for both']);
    expect(await names(`x"}]' or true --`)).toEqual([]);
  });
});

describe('a timeline', () => {
  it('tells each step in words, with when and by whom', async () => {
    const { events } = await deliveryOf('posted');
    expect(timelineOf(events).map(({ elapsedMs, what, provider }) => [elapsedMs, what, provider])).toEqual([
      [0, 'requested with priority NORMAL for 1 legs', null],
      [2_000, 'attempt 1 failed: ECONNRESET (NETWORK)', 'webhook'],
      [2_000, `is tried again at ${at(12)}`, null],
      [20_000, 'attempt 2: delivered', 'webhook'],
    ]);
    const [, , , opened] = timelineOf((await deliveryOf('read')).events);
    expect(opened).toMatchObject({ what: 'opened', at: at(6), channel: 'EMAIL', leg: 1, actor: 'test' });
  });
});

describe('the compliance record', () => {
  const NOTHING = { downloads: [], retention: { classes: [] } };

  it('tells how long it is kept, and how often its files were seen and saved', async () => {
    const offered = (provider?: string): DownloadEvent => ({
      type: 'DownloadOffered',
      at: at(2),
      data: { organizationId: 'ours', deliveryId: 'x', expiresAt: at(900), ...(provider && { provider }) },
    });
    const access = (mode: 'view' | 'download', isCounted: boolean): DownloadEvent => ({
      type: 'DownloadAccessed',
      at: at(3),
      data: { file: 0, use: 1, isCounted, mode },
    });
    const retention = { classes: [{ name: 'phi', keep: 'P6Y' }] };
    const refused: DownloadEvent = { type: 'DownloadRefused', at: at(3), data: {} };
    const seen = [offered(), access('view', true), refused];
    const saved = [offered(), access('download', true), access('download', false), access('download', true)];
    const told = (downloads: DownloadEvent[][]) =>
      deliveryOf('kept').then((kept) => complianceRecord(kept, { downloads, retention }));
    expect(await told([seen, saved])).toMatchObject({ retentionPeriod: 'P6Y (phi)', viewCount: 1, downloadCount: 2 });
    // A provider that serves a file tells nobody who came for it.
    expect(await told([saved, [offered('aws-s3')]])).toMatchObject({ viewCount: 0, downloadCount: null });
    expect(await told([])).toMatchObject({ viewCount: 0, downloadCount: null });
  });

  it('has every column of what a stream tells', async () => {
    expect(complianceRecord(await deliveryOf('careful'), NOTHING)).toEqual({
      ...{ deliveryId: ids.get('careful'), organizationId: 'ours', deliveryDate: at(2), status: 'DELIVERED' },
      ...{ reportClassification: ['FINANCIAL'], recipientList: ['s'], recipientCount: 1, deliveryChannels: ['EMAIL'] },
      ...{ encryptionUsed: [], watermarkApplied: null },
      accessControls: ['approval by 1 of 2', `not after ${at(900)}`],
      ...{ approvalWorkflowId: ids.get('careful'), approverList: ['test', 'ada'], approvedBy: ['ada'] },
      ...{ securityReviewStatus: 'APPROVED', retentionPeriod: 'until erased', expirationDate: at(900) },
      ...{ disposalMethod: null, viewCount: 0, downloadCount: null, forwardingCount: null },
      soxCompliance: {
        ...{ applies: true, isComplete: true },
        controls: [
          { control: 'every step is recorded, with who did it', isMet: true },
          { control: 'somebody else than the requester has approved it', isMet: true },
          { control: 'what became of it is known', isMet: true },
        ],
      },
      gdprCompliance: expect.objectContaining({ applies: true, isComplete: false }),
      hipaaCompliance: { applies: false, isComplete: null, controls: [] },
      riskScore: 20,
      riskFactors: [{ factor: 'sensitive-content', points: 20, reason: expect.any(String) }],
    });
  });

  it('explains its score, factor by factor', async () => {
    const { riskScore, riskFactors, hipaaCompliance, securityReviewStatus } = complianceRecord(
      await deliveryOf('sensitive'),
      NOTHING,
    );
    expect(riskFactors.map(({ factor, points }) => [factor, points])).toEqual([
      ['sensitive-content', 30],
      ['not-approved', 20],
      ['open-channel', 15],
      ['unlisted-address', 10],
      ['many-recipients', 5],
      ['no-end', 5],
    ]);
    expect(riskScore).toBe(85);
    expect(securityReviewStatus).toBe('NOT_REQUIRED');
    expect(hipaaCompliance).toMatchObject({ applies: true, isComplete: false });
    expect(complianceRecord(await deliveryOf('read'), NOTHING)).toMatchObject({
      riskScore: 0,
      riskFactors: [],
      viewCount: 2,
    });
    expect(complianceRecord(await deliveryOf('hated'), NOTHING).riskFactors).toMatchObject([
      { factor: 'bounced-or-complained' },
    ]);
    expect(complianceRecord(await deliveryOf('for bob'), NOTHING).securityReviewStatus).toBe('PENDING');
  });
});
