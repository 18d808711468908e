import { describe, expect, it } from 'vitest';
import { delivery } from '../../src/domain/delivery.js';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import { statusEventOf, statusReport } from '../../src/domain/status-events.js';
import {
  at,
  busy,
  bySmtp,
  DELIVERY,
  email,
  existing,
  failed,
  leg,
  requested,
  started,
  succeeded,
} from '../support/deliveries.js';

/** What requesters are told of, event by event. */
const told = (...events: DeliveryEvent[]) =>
  events.map((event, index) => {
    const fold = (until: number) => events.slice(0, until).reduce(delivery.evolve, delivery.initial);
    return statusEventOf(fold(index), event, fold(index + 1));
  });
const byMail = requested({ legs: [leg(1, email)] });
const report = { leg: 1, round: 0, route: 0, provider: 'smtp', reportId: 'r', happenedAt: at(9), recipient: 'a' };

describe('news of a delivery', () => {
  it('come when its status has changed to one that is told, once', () => {
    expect(told(byMail, started(bySmtp(1)), succeeded(bySmtp(1), false))).toEqual([undefined, undefined, 'SENT']);
    const { legs } = byMail.data;
    expect(told(requested({ legs, scheduledAt: at(60) }), { type: 'ScheduleReached', at: at(60), data: {} })).toEqual([
      'HELD',
      undefined,
    ]);
    expect(told(byMail, { type: 'DeliveryCancelled', at: at(1), data: { by: 'ada' } })).toEqual([
      undefined,
      'CANCELLED',
    ]);
    expect(told(byMail, { type: 'DeliveryExpired', at: at(1), data: {} })).toEqual([undefined, 'EXPIRED']);
  });

  it('say that it has failed when no attempt is left, not before', () => {
    const events = [byMail, started(bySmtp(1)), failed(bySmtp(1), busy), started(bySmtp(2)), failed(bySmtp(2), busy)];
    const end = { type: 'LegDeadLettered', at: at(9), data: { leg: 1, failure: busy } } as const;
    expect(told(...events, end)).toEqual([undefined, undefined, undefined, undefined, undefined, 'FAILED']);
  });

  it('say what recipients do, each time', () => {
    const opened = { type: 'Opened', at: at(9), data: report } as const;
    const clicked = { type: 'Clicked', at: at(9), data: { ...report, reportId: 's' } } as const;
    const sent = [byMail, started(bySmtp(1)), succeeded(bySmtp(1), false)];
    expect(told(...sent, opened, clicked).slice(3)).toEqual(['OPENED', 'CLICKED']);
    const delivered = { type: 'Delivered', at: at(9), data: { ...report, reportId: 't' } } as const;
    expect(told(...sent, delivered).slice(3)).toEqual(['DELIVERED']);
  });

  it('have nothing of persons and contents', () => {
    const events = [byMail, started(bySmtp(1)), failed(bySmtp(1), busy)];
    const state = existing(events.reduce(delivery.evolve, delivery.initial));
    const about = { revision: 2, at: at(9), correlationId: 'c' };
    expect(statusReport(DELIVERY, state, about)).toEqual({
      ...{ id: DELIVERY, status: 'PROCESSING', revision: 2, at: at(9), correlationId: 'c' },
      legs: [
        {
          ...{ id: `${DELIVERY}-1`, status: 'PROCESSING', attempts: 1, channel: 'EMAIL' },
          failure: { category: 'TEMPORARY', code: 'HTTP_503' },
        },
      ],
    });
  });
});
