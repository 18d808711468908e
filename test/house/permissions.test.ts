import { readFileSync } from 'node:fs';
import { buildSchema } from 'graphql';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_ROLES, PERMISSIONS } from '../../src/domain/vocabulary.js';
import { OPERATIONS } from '../../src/security/permissions.js';

const schema = buildSchema(readFileSync(new URL('../../src/graphql/schema.graphql', import.meta.url), 'utf8'));
const operations = [schema.getQueryType(), schema.getMutationType(), schema.getSubscriptionType()].flatMap((root) =>
  Object.keys(root?.getFields() ?? {}).map((field) => `${root?.name}.${field}`),
);

it('every operation of the API says what it needs, in src/security/permissions.ts, and nothing else does', () => {
  expect(operations.length).toBeGreaterThan(20);
  expect(Object.keys(OPERATIONS).sort()).toEqual([...operations].sort());
});

describe('the built-in roles', () => {
  const mayDo = (role: string, operation: string) =>
    BUILT_IN_ROLES[role]?.some((permission) => permission === OPERATIONS[operation]?.needs) ?? false;

  it('hold known permissions only; admin holds all', () => {
    for (const permissions of Object.values(BUILT_IN_ROLES))
      expect(PERMISSIONS).toEqual(expect.arrayContaining([...permissions]));
    expect(BUILT_IN_ROLES.admin).toEqual(PERMISSIONS);
  });

  it('auditor changes nothing and reads everything of its organization', () => {
    const ofOrganization = operations.filter((operation) => OPERATIONS[operation]?.needs !== 'installation');
    const about = (root: string) => ofOrganization.filter((operation) => operation.startsWith(`${root}.`));
    expect(about('Mutation').filter((operation) => mayDo('auditor', operation))).toEqual([]);
    const readable = [...about('Query'), ...about('Subscription')];
    const needsMore = (operation: string) => OPERATIONS[operation]?.needs !== 'authenticated';
    // What everybody may change is their own.
    expect(about('Mutation').filter((operation) => !needsMore(operation))).toEqual([
      'Mutation.markInboxRead',
      'Mutation.markInboxUnread',
    ]);
    expect(readable.filter((operation) => needsMore(operation) && !mayDo('auditor', operation))).toEqual([]);
  });

  it('no role reaches what belongs to the installation', () => {
    const needed = new Set(Object.values(OPERATIONS).map(({ needs }) => needs));
    expect(needed).toContain('installation');
    expect(PERMISSIONS as readonly string[]).not.toContain('installation');
  });

  it('an approver decides approvals and cannot retry or cancel; a sender sends and does not approve', () => {
    expect(mayDo('approver', 'Mutation.approveDelivery')).toBe(true);
    expect(mayDo('approver', 'Mutation.retryDelivery')).toBe(false);
    expect(mayDo('approver', 'Mutation.cancelDelivery')).toBe(false);
    expect(mayDo('sender', 'Mutation.requestDelivery')).toBe(true);
    expect(mayDo('sender', 'Mutation.approveDelivery')).toBe(false);
  });
});
