import { buildSchema, graphql, parse, subscribe } from 'graphql';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_ROLES, type Permission } from '../../src/domain/vocabulary.js';
import { guardOperations } from '../../src/graphql/access-guard.js';
import { type Access, LoggedDenials } from '../../src/security/access-log.js';
import { installationAdmin, memberOf, type Principal } from '../../src/security/principal.js';

const permissions = (role: string) => new Set<Permission>(BUILT_IN_ROLES[role]);

/** A schema of real operations whose resolvers tell whom they were called for. */
function world() {
  const schema = buildSchema(`
    type Query { delivery(id: ID!): String, dashboard: String, projections: String }
    type Mutation { cancelDelivery(id: ID!): String }
    type Subscription { deliveryUpdated: String }`);
  const reached = (_: unknown, __: unknown, { principal }: { principal: Principal }) =>
    principal.organizations === 'all' ? 'all' : principal.organizations.join(' ');
  for (const root of [schema.getQueryType(), schema.getMutationType()])
    for (const field of Object.values(root?.getFields() ?? {})) field.resolve = reached;
  const updated = schema.getSubscriptionType()?.getFields().deliveryUpdated;
  if (updated)
    updated.subscribe = async function* (...args: Parameters<typeof reached>) {
      yield { deliveryUpdated: reached(...args) };
    } as never;
  guardOperations(schema);
  const accesses: Access[] = [];
  const contextOf = (principal: Principal) => ({
    principal,
    accessLog: { record: (access: Access) => void accesses.push(access) },
    ip: '192.0.2.1',
  });
  const ask = async (principal: Principal, source: string) => {
    const { data, errors } = await graphql({ schema, source, contextValue: contextOf(principal) });
    return { data: data && { ...data }, codes: (errors ?? []).map(({ extensions }) => extensions.code) };
  };
  return { schema, contextOf, ask, accesses };
}

const nurse = memberOf(
  'staff:17',
  'token',
  new Map([
    ['ward', permissions('auditor')],
    ['clinic', permissions('operator')],
    ['office', permissions('analyst')],
  ]),
);

describe('an operation', () => {
  it('sees only the organizations in which its permission is held', async () => {
    const { ask } = world();
    expect(await ask(nurse, '{ delivery(id: "1") dashboard }')).toEqual({
      data: { delivery: 'ward clinic', dashboard: 'ward clinic office' },
      codes: [],
    });
    expect((await ask(nurse, 'mutation { cancelDelivery(id: "1") }')).data).toEqual({ cancelDelivery: 'clinic' });
  });

  it('is refused where the permission is held nowhere, whatever its name in the answer, and the others run', async () => {
    const { ask } = world();
    const analyst = memberOf('staff:18', 'token', new Map([['office', permissions('analyst')]]));
    expect(await ask(analyst, '{ dashboard projections: delivery(id: "1") }')).toEqual({
      data: { dashboard: 'office', projections: null },
      codes: ['FORBIDDEN'],
    });
    expect((await ask(analyst, '{ ...all } fragment all on Query { delivery(id: "1") }')).codes).toEqual(['FORBIDDEN']);
  });

  it('of the installation is for its administrators, whatever role somebody has in an organization', async () => {
    const { ask } = world();
    const chief = memberOf('staff:1', 'token', new Map([['ward', permissions('admin')]]));
    expect((await ask(chief, '{ projections }')).codes).toEqual(['FORBIDDEN']);
    expect((await ask(installationAdmin('admin', 'key'), '{ projections }')).data).toEqual({ projections: 'all' });
  });

  it('is guarded as a subscription before it begins', async () => {
    const { schema, contextOf } = world();
    const document = parse('subscription { deliveryUpdated }');
    const start = (principal: Principal) => subscribe({ schema, document, contextValue: contextOf(principal) });
    const mine = await start(nurse);
    if (!(Symbol.asyncIterator in mine)) throw new Error('refused');
    expect((await mine.next()).value).toEqual({ data: { deliveryUpdated: 'ward clinic' } });
    const analyst = memberOf('staff:18', 'token', new Map([['office', permissions('analyst')]]));
    expect(await start(analyst)).toMatchObject({ errors: [{ extensions: { code: 'FORBIDDEN' } }] });
  });

  it('is told to the access log when it is denied, and when it is sensitive', async () => {
    const { ask, accesses } = world();
    await ask(nurse, '{ delivery(id: "7") dashboard projections }');
    expect(accesses).toEqual([
      { actor: 'staff:17', action: 'Query.delivery', outcome: 'granted', resource: '7', ip: '192.0.2.1' },
      { actor: 'staff:17', action: 'Query.projections', outcome: 'denied', ip: '192.0.2.1', reason: 'permission' },
    ]);
  });

  it('that has no row in the table keeps the API from starting', () => {
    const schema = buildSchema('type Query { newThing: String }');
    expect(() => guardOperations(schema)).toThrow('Query.newThing has no row in src/security/permissions.ts');
  });
});

describe('denials in the log', () => {
  it('are without address and resource, at most 60 a minute, and the rest is counted', () => {
    const lines: object[] = [];
    let now = 0;
    const log = new LoggedDenials(
      (fields) => void lines.push(fields),
      () => now,
    );
    const denied = { actor: 'a', action: 'Query.delivery', outcome: 'denied', ip: '192.0.2.1', resource: 'x' } as const;
    log.record({ ...denied, outcome: 'granted' });
    for (let n = 0; n < 100; n++) log.record(denied);
    expect(lines).toHaveLength(60);
    expect(JSON.stringify(lines)).not.toMatch(/192\.0\.2\.1|resource/);
    now = 60_000;
    log.record(denied);
    expect(lines.at(-1)).toMatchObject({ actor: 'a', unsaid: 40 });
  });
});
