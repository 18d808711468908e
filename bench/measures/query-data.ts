import type pg from 'pg';
import { COUNTERS as DASHBOARD } from '../../src/projections/dashboard.js';

/** Organizations of the filled tables; the first has half of all rows. */
export const ORGANIZATIONS = 50;
export const TAGS = 500;
export const DESTINATIONS = 200;
/** The deliveries are spread over this time, the newest now. */
export const DAYS = 30;

const destination = (number: string) => `('d0000000-0000-4000-8000-' || lpad((${number})::text, 12, '0'))::uuid`;
const organization = (number: string) =>
  `'bench-' || case when ${number} % 2 = 0 then 0 else 1 + (${number} / 2) % ${ORGANIZATIONS - 1} end`;

/**
 * Fills the read models with deliveries as a busy installation has them, without events: 94 % delivered, 3 % failed, 1 %
 * dead letters, some held, some of them for an approval, the oldest 2 % of one campaign. Rows are in the order of their requests, as they would be.
 */
export async function fillReadModels(sql: pg.Client, deliveries: number): Promise<void> {
  await sql.query('set synchronous_commit = off');
  const at = `date_trunc('milliseconds', now() - interval '${DAYS} days' * ((${deliveries} - n)::float8 / ${deliveries}))`;
  await sql.query(`
    create temp table made as select n, gen_random_uuid() as id, ${organization('n')} as organization_id, ${at} as at,
      case when n % 100 < 94 then 'DELIVERED' when n % 100 < 97 then 'FAILED' when n % 100 < 98 then 'BOUNCED'
           when n % 100 < 99 then 'HELD' else 'SENT' end as status,
      case when n % 3 = 0 then 'EMAIL' else 'WEBHOOK' end as channel,
      ${destination(`n % ${DESTINATIONS}`)} as destination_id
    from generate_series(1, ${deliveries}) n`);
  await sql.query(`
    insert into deliveries (id, organization_id, status, priority, legs, holds, tags, correlation_id, channels,
      destination_ids, subjects, dead_lettered, requested_at, completed_at, updated_at, revision, position, rare_status)
    select id, organization_id, status, 'NORMAL',
      jsonb_build_array(jsonb_build_object('id', id || '-1', 'channel', channel, 'destinationId', destination_id,
        'recipientId', null, 'status', status, 'attempts', 1, 'nextAttemptAt', null, 'deadLettered', n % 100 = 95,
        'failure', null)),
      case when n % 1000 = 98 then '[{"reason": "approval", "detail": {"approvers": ["ada"], "minimum": 1, "approvedBy": []}}]'
           when status = 'HELD' then '[{"reason": "schedule"}]' else '[]' end::jsonb,
      case when n < ${deliveries} / 50 then array['campaign'] else array['tag-' || n % ${TAGS}] end, 'order-' || n,
      array[channel], array[destination_id], array['person-' || n % ${Math.ceil(deliveries / 20)}], n % 100 = 95, at,
      case when status <> 'HELD' then at + interval '1 second' end, at + interval '1 second', 2, 1,
      case when status not in ('DELIVERED', 'SENT') then status end
    from made order by n`);
  await sql.query(`
    insert into delivery_hours
    select organization_id, date_trunc('hour', requested_at, 'UTC'), count(*), count(*) filter (where status = 'HELD'), 0, 0,
      count(*) filter (where status = 'SENT'), count(*) filter (where status = 'DELIVERED'),
      count(*) filter (where status = 'FAILED'), count(*) filter (where status = 'BOUNCED'), 0, 0, 0,
      count(*) filter (where channels = '{EMAIL}'), 0, 0, 0, 0, 0, 0, 0, count(*) filter (where channels = '{WEBHOOK}'), 0, 0, 0, 0
    from deliveries group by 1, 2`);
  await sql.query(`
    insert into legs (delivery_id, leg, organization_id, channel, provider, destination_id, priority, status, attempts,
      requested_at, first_attempt_at, sent_at, due_at, error_category, error_code, dead_lettered, updated_at, open_due_at, unmet_due_at)
    select id, 1, organization_id, channel, lower(channel), destination_id, 'NORMAL', status, 1, at, at,
      case when status in ('DELIVERED', 'SENT', 'BOUNCED') then at + interval '1 second' end,
      case when n % 4 = 0 then at + interval '1 minute' end,
      case when status = 'FAILED' then 'NETWORK' end, case when status = 'FAILED' then 'ECONNRESET' end, n % 100 = 95, at,
      case when n % 4 = 0 and status = 'HELD' then at + interval '1 minute' end,
      case when n % 4 = 0 and status in ('HELD', 'FAILED') then at + interval '1 minute' end
    from made order by n`);
  await sql.query(`
    insert into dashboard_hours (organization_id, hour, channel, ${DASHBOARD.join(', ')})
    select organization_id, date_trunc('hour', at, 'UTC'), channel, ${DASHBOARD.map(() => 'count(*)').join(', ')}
    from made group by 1, 2, 3`);
  await sql.query(`
    insert into attempts (delivery_id, leg, number, organization_id, route, channel, provider, destination_id, status,
      started_at, completed_at)
    select id, 1, 1, organization_id, 0, channel, lower(channel), destination_id,
      case when status in ('DELIVERED', 'SENT', 'BOUNCED') then 'SUCCEEDED' else 'FAILED' end, at, at + interval '1 second'
    from made where status <> 'HELD' order by n`);
  for (const table of ['deliveries', 'delivery_hours', 'legs', 'attempts', 'dashboard_hours'])
    await sql.query(`vacuum analyze ${table}`);
}
