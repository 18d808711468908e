import type { MigrationInterface, QueryRunner } from 'typeorm';
import { protect } from './tenant-policy.js';

/** In-app messages as their recipients see them, and who of them is connected where. */
export class Inbox1791000000000 implements MigrationInterface {
  name = 'Inbox1791000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      create table inbox_messages (
        id uuid primary key,
        organization_id text not null,
        person text not null,
        delivery_id uuid not null,
        content jsonb not null,
        priority text not null,
        stored_at timestamptz(3) not null,
        read_at timestamptz(3),
        expires_at timestamptz(3) not null,
        place bigint not null,
        position bigint not null
      );
      create index inbox_messages_by_place on inbox_messages (person, place);
      create index inbox_messages_by_change on inbox_messages (person, position);
      create table inbox_presence (
        organization_id text not null,
        person text not null,
        instance_id text not null,
        seen_at timestamptz not null,
        primary key (person, instance_id)
      )`);
    await runner.query(protect('inbox_messages'));
    await runner.query(protect('inbox_presence'));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('drop table inbox_presence; drop table inbox_messages');
  }
}
