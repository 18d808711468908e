import type { MigrationInterface, QueryRunner } from 'typeorm';
import { protect } from './tenant-policy.js';

/**
 * What lists of millions of rows need to be as fast as short ones (decision 0082): columns that only rows get which few
 * filters look for, so that every other update stays in its page (HOT), and counts by hour that say where to look.
 */
export class ListsOfMillions1798500000000 implements MigrationInterface {
  name = 'ListsOfMillions1798500000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table delivery_hours (
        organization_id text not null,
        hour timestamptz(3) not null,
        ${COUNTED.map((name) => `${name} bigint not null`).join(',\n        ')},
        primary key (organization_id, hour)
      ) with (fillfactor = 50);
      create index delivery_hours_by_hour on delivery_hours (hour);
      insert into delivery_hours
        select organization_id, date_trunc('hour', requested_at, 'UTC'), count(*),
          ${STATUSES.map((name) => `count(*) filter (where status = '${name.toUpperCase()}')`).join(', ')},
          ${CHANNELS.map((name) => `count(*) filter (where '${name.toUpperCase()}' = any(channels))`).join(', ')}
        from deliveries group by 1, 2`);
    await runner.query(protect('delivery_hours'));
    await runner.query(`
      alter table deliveries add column rare_status text;
      update deliveries set rare_status = status
        where status in ('HELD', 'FAILED', 'BOUNCED', 'REJECTED', 'EXPIRED', 'CANCELLED');
      create index deliveries_by_rare_status on deliveries (organization_id, rare_status, requested_at desc, id desc)
        where rare_status is not null;
      create index deliveries_of_all_by_rare_status on deliveries (rare_status, requested_at desc, id desc)
        where rare_status is not null;
      create index deliveries_dead_lettered_by_organization on deliveries (organization_id, requested_at desc, id desc)
        where dead_lettered`);
    await runner.query(`
      alter table legs add column open_due_at timestamptz(3), add column unmet_due_at timestamptz(3);
      update legs set
        open_due_at = case when status in ('HELD', 'QUEUED', 'PROCESSING') then due_at end,
        unmet_due_at = case when status <> 'CANCELLED' and (sent_at is null or sent_at > due_at) then due_at end
        where due_at is not null;
      create index legs_open_by_due_time on legs (open_due_at, delivery_id, leg) where open_due_at is not null;
      create index legs_unmet_by_due_time on legs (unmet_due_at, delivery_id, leg) where unmet_due_at is not null;
      create index legs_unmet_by_organization on legs (organization_id, unmet_due_at, delivery_id, leg)
        where unmet_due_at is not null;
      create index legs_dead_lettered_by_organization on legs (organization_id, requested_at desc, delivery_id desc, leg)
        where dead_lettered;
      drop index legs_by_due_time;
      create index attempts_by_organization on attempts
        (organization_id, started_at desc, delivery_id desc, leg desc, number desc)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      drop index attempts_by_organization;
      drop index legs_dead_lettered_by_organization;
      drop index deliveries_dead_lettered_by_organization;
      create index legs_by_due_time on legs (due_at, delivery_id, leg) where due_at is not null;
      alter table legs drop column open_due_at, drop column unmet_due_at;
      alter table deliveries drop column rare_status;
      drop table delivery_hours`);
  }
}

const STATUSES = [
  ...['held', 'queued', 'processing', 'sent', 'delivered'],
  ...['failed', 'bounced', 'rejected', 'expired', 'cancelled'],
];
const CHANNELS = [
  ...['email', 'sms', 'push', 'in_app', 'web_push', 'voice', 'slack'],
  ...['teams', 'webhook', 'sftp', 'storage', 'download', 'api'],
];
const COUNTED = ['total', ...STATUSES, ...CHANNELS];
