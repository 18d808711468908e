import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What analysts may ask in SQL (docs/analysts.md): views in a schema of their own, each row to those whose role was given
 * its organization. They show nothing that is personal, sealed or of the client's own making but tags. The views are the
 * owner's, so whoever may read them need not, and cannot, read what they are made of.
 */
export class AnalystViews1795200000000 implements MigrationInterface {
  name = 'AnalystViews1795200000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`create schema waybill_analytics`);
    await runner.query(`
      create table waybill_analytics.scopes (
        role_name name not null,
        organization_id text not null,
        primary key (role_name, organization_id)
      )`);
    await runner.query(`comment on table waybill_analytics.scopes is 'whose rows each role sees; * stands for all'`);
    for (const [name, query] of Object.entries(VIEWS))
      await runner.query(`create view waybill_analytics.${name} with (security_barrier) as ${query}`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop schema waybill_analytics cascade');
  }
}

// Both are sub-selects that do not depend on the row, so they are evaluated once for a query.
const OWN = `((select exists (select from waybill_analytics.scopes s
                             where s.role_name = current_user and s.organization_id = '*'))
  or organization_id = any (array(select s.organization_id from waybill_analytics.scopes s
                                  where s.role_name = current_user)))`;
const seconds = (sum: string, count: string) => `round(sum(${sum}) / 1000.0 / nullif(sum(${count}), 0), 3)`;
const categories = [
  ...['temporary', 'permanent', 'rate_limit', 'authentication'],
  ...['configuration', 'validation', 'network', 'system'],
];

const VIEWS = {
  deliveries: `
    select id, organization_id, status, priority, channels, destination_ids, tags, jsonb_array_length(legs) as legs,
      dead_lettered, requested_at, scheduled_at, expires_at, completed_at, updated_at
    from deliveries where ${OWN}`,
  legs: `
    select delivery_id, leg, organization_id, channel, provider, destination_id, priority, status, attempts, requested_at,
      first_attempt_at, sent_at, due_at, error_category, error_code, dead_lettered, opens, clicks, complaints, opt_outs,
      updated_at
    from legs where ${OWN}`,
  attempts: `
    select delivery_id, leg, number, organization_id, route, channel, provider, destination_id, status, started_at,
      completed_at, error ->> 'category' as error_category, error ->> 'code' as error_code
    from attempts where ${OWN}`,
  destinations: `
    select d.id, d.organization_id, d.label, d.type, d.is_default, d.enabled, d.deleted, d.created_at, d.updated_at,
      coalesce(h.deliveries, 0) as deliveries, coalesce(h.failures, 0) as failures,
      coalesce(h.consecutive_failures, 0) as consecutive_failures, h.last_success_at, h.last_failure_at
    from destinations d left join destination_health h on h.destination_id = d.id
    where ${OWN.replaceAll('or organization_id', 'or d.organization_id')}`,
  // Seed 0, enterprise_delivery_dashboard.
  enterprise_delivery_dashboard: `
    select organization_id, date_trunc('day', hour, 'UTC') as day, channel as delivery_channel,
      sum(total) as total_deliveries, sum(delivered) as successful_deliveries, sum(failed) as failed_deliveries,
      sum(pending) as pending_deliveries, ${seconds('processing_ms', 'processing_count')} as avg_processing_time,
      ${seconds('delivery_ms', 'delivery_count')} as avg_delivery_time,
      round(sum(sla_met)::numeric / nullif(sum(sla_counted), 0), 4) as sla_compliance,
      array_remove(array[${categories
        .map((name) => `case when sum(error_${name}) > 0 then '${name.toUpperCase()}' end`)
        .join(', ')}], null) as error_categories,
      sum(recipients) as total_recipients, sum(high_priority) as high_priority_deliveries
    from dashboard_hours where ${OWN} group by 1, 2, 3 having sum(total) > 0`,
  // Seed 1, delivery_performance_summary.
  delivery_performance_summary: `
    select organization_id, channel as channel_type, provider as provider_id,
      (requested_at at time zone 'UTC')::date as delivery_date, count(*) as total_deliveries,
      count(*) filter (where status in ('SENT', 'DELIVERED')) as successful_deliveries,
      round(avg(extract(epoch from sent_at - requested_at)) filter (where status in ('SENT', 'DELIVERED')), 3)
        as avg_delivery_time
    from legs where ${OWN} group by 1, 2, 3, 4`,
  engagement_days: `
    select organization_id, channel, (requested_at at time zone 'UTC')::date as day,
      count(*) filter (where sent_at is not null) as sent, count(*) filter (where status = 'BOUNCED') as bounced,
      count(*) filter (where opens > 0) as opened, sum(opens) as opens, count(*) filter (where clicks > 0) as clicked,
      sum(clicks) as clicks, sum(complaints) as complaints, sum(opt_outs) as opt_outs
    from legs where ${OWN} group by 1, 2, 3`,
} as const;
