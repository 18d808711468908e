import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Numbers the runs of instances: an instance takes its own partitions back at once after a restart, and a claim that the
 * run before had sent when it was killed must not take them from it, however late PostgreSQL carries it out.
 */
export class RunsOfInstances1798000000000 implements MigrationInterface {
  name = 'RunsOfInstances1798000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('create sequence engine_runs');
    await runner.query('alter table engine_partitions add column run bigint not null default 0');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('alter table engine_partitions drop column run');
    await runner.query('drop sequence engine_runs');
  }
}
