import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Lets readers find deliveries by tag, destination and person with the indexes that are there for it. Under row security
 * PostgreSQL uses an index only for operators that are known to tell nothing of rows that are not to be seen; "contains"
 * of arrays compares elements and reports nothing else, but is not marked so, as elements might be of any type.
 *
 * Only a superuser may say so. Elsewhere these filters read the rows of the span that is asked for, until one has
 * (docs/queries.md).
 */
export class FiltersUseTheirIndexes1797000000000 implements MigrationInterface {
  name = 'FiltersUseTheirIndexes1797000000000';

  async up(runner: QueryRunner): Promise<void> {
    await mark(runner, 'leakproof');
  }

  async down(runner: QueryRunner): Promise<void> {
    await mark(runner, 'not leakproof');
  }
}

const mark = (runner: QueryRunner, how: string): Promise<unknown> =>
  runner.query(`
    do $$ begin
      alter function pg_catalog.arraycontains(anyarray, anyarray) ${how};
    exception when insufficient_privilege then
      null;
    end $$`);
