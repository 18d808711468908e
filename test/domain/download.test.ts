import { describe, expect, it } from 'vitest';
import {
  conditionOf,
  type DownloadCommand,
  type DownloadEvent,
  decide,
  download,
  evolve,
} from '../../src/domain/download.js';

const [EARLIER, NOW, LATER] = ['2026-03-02T12:00:00.000Z', '2026-03-02T12:10:00.000Z', '2026-03-03T12:00:00.000Z'];
const offer = {
  ...{ organizationId: 'hospital-001', subject: 'person:ada', deliveryId: 'd-1', expiresAt: LATER },
  files: [{ name: 'report.pdf', contentType: 'application/pdf', bytes: 7 }],
  stored: [{ path: 'files.0', key: 'k-1', hash: 'ab', size: 23, salt: '00', until: 1_772_539_200 }],
};
const offered = (more = {}): DownloadEvent => ({
  type: 'DownloadOffered',
  at: EARLIER,
  data: { ...offer, ...more },
});
const accessed = (use = 1, isCounted = true, at = EARLIER): DownloadEvent => ({
  type: 'DownloadAccessed',
  at,
  data: { file: 0, use, isCounted, mode: 'download' },
});
const refused: DownloadEvent = { type: 'DownloadRefused', at: EARLIER, data: {} };
const times = (count: number, event: DownloadEvent) => Array.from({ length: count }, () => event);
const fold = (events: readonly DownloadEvent[]) => events.reduce(evolve, download.initial);
const when = (events: readonly DownloadEvent[], change: Partial<DownloadCommand> = {}) =>
  decide({ type: 'AccessDownload', now: NOW, file: 0, isRest: false, ...change } as DownloadCommand, fold(events));
const is = (condition: string) => ({
  ok: false,
  rejection: { code: 'NOT_FOUND', message: `this link is ${condition}` },
});

describe('a download', () => {
  it('is offered once', () => {
    const command: DownloadCommand = { type: 'OfferDownload', now: EARLIER, offer };
    expect(decide(command, download.initial)).toEqual({ ok: true, events: [offered()] });
    expect(decide(command, fold([offered()]))).toEqual({ ok: true, events: [] });
    expect(when([])).toMatchObject({ ok: false, rejection: { code: 'NOT_FOUND' } });
  });

  it('counts each use, and not the rest of one that was interrupted', () => {
    const event = (data: object) => ({ ok: true, events: [{ type: 'DownloadAccessed', at: NOW, data }] });
    const first = { file: 0, use: 1, isCounted: true, mode: 'download' };
    expect(when([offered()], { address: '192.0.2.1' })).toEqual(event({ ...first, address: '192.0.2.1' }));
    expect(when([offered({ isViewOnly: true })])).toEqual(event({ ...first, mode: 'view' }));
    expect(when([offered(), accessed()])).toEqual(event({ ...first, use: 2 }));
    expect(when([offered(), accessed()], { isRest: true })).toEqual(event({ ...first, isCounted: false }));
    // Whoever begins in the middle has not begun before.
    expect(when([offered()], { isRest: true })).toEqual(event(first));
  });

  it('ends with its uses; the last one may be finished, for an hour', () => {
    const used = [offered({ maxUses: 1 }), accessed()];
    expect(when(used)).toEqual(is('used'));
    expect(when(used, { isRest: true })).toMatchObject({ ok: true, events: [{ data: { use: 1, isCounted: false } }] });
    expect(when(used, { isRest: true, now: '2026-03-02T13:00:00.000Z' })).toEqual(is('used'));
    const much = [offered(), accessed(), ...times(4_999, accessed(1, false))];
    expect(when(much)).toEqual(is('used'));
    expect(when(much, { isRest: true })).toEqual(is('used'));
  });

  it('ends with its time, with ten wrong passwords, and with the person it was for', () => {
    expect(when([offered()], { now: LATER })).toEqual(is('expired'));
    expect(when([offered(), ...times(9, refused)])).toMatchObject({ ok: true });
    const locked = [offered(), ...times(10, refused)];
    expect(when(locked)).toEqual(is('locked'));
    expect(when(locked, { type: 'RefuseDownload' })).toEqual({ ok: true, events: [] });
    const { files: _, ...erased } = offer;
    expect(when([{ type: 'DownloadOffered', at: EARLIER, data: erased }])).toEqual(is('erased'));
  });

  it('of a provider of storage ends with its time and with the person, and is not served here', () => {
    const { stored: _, ...linked } = { ...offer, provider: 's3' };
    const url = 'https://bucket.s3.eu-central-1.amazonaws.com/report.pdf?X-Amz-Signature=0';
    const data = { ...linked, files: [{ name: 'report.pdf', contentType: 'application/pdf', bytes: 7, url }] };
    const event: DownloadEvent = { type: 'DownloadOffered', at: EARLIER, data };
    const condition = (given: DownloadEvent, now: string) => {
      const state = fold([given]);
      return state.tag === 'offered' && conditionOf(state, now);
    };
    expect(condition(event, NOW)).toBe('open');
    expect(condition(event, LATER)).toBe('expired');
    const { files: __, ...erased } = data;
    expect(condition({ ...event, data: erased }, NOW)).toBe('erased');
    expect(when([event])).toMatchObject({
      ok: false,
      rejection: { code: 'NOT_FOUND', message: expect.stringContaining('s3') },
    });
  });

  it('says how it is, and cannot be accessed before it is offered', () => {
    const state = fold([offered(), accessed(), refused]);
    expect(state).toMatchObject({ uses: 1, accesses: 1, refusals: 1, lastAccessAt: EARLIER });
    expect(state.tag === 'offered' && conditionOf(state, NOW)).toBe('open');
    expect(() => evolve(download.initial, refused)).toThrow('never offered');
    const unknown = { ...refused, type: 'DownloadBurnt' } as unknown as DownloadEvent;
    expect(() => evolve(state, unknown)).toThrow('is not an event of downloads');
  });
});
