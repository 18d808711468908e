import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RequestDeliveryInput, TargetInput } from '../../../src/commands/delivery-input.js';
import { deliveryIdForKey, newId } from '../../../src/commands/ids.js';
import type { Requester } from '../../../src/commands/intake.js';
import { ada, type CommandSide, commandSide, good, mallory, refusal, toBilling } from '../../support/commands.js';
import { at, ORGANIZATION } from '../../support/deliveries.js';

const now = new Date(at(0));
const hook: TargetInput = { channel: 'WEBHOOK', address: 'https://billing.example/hook' };
const base64 = (bytes: number) => Buffer.alloc(bytes, 'x').toString('base64');
const attachment = (change: object = {}) => ({
  content: { attachments: [{ filename: 'q1.csv', contentType: 'text/csv', base64: base64(10), ...change }] },
});

let side: CommandSide;
let mine: string;
let email: string;
let foreign: string;
let existing: string;
let foreignDelivery: string;
beforeAll(async () => {
  side = await commandSide({ maxAttachmentBytes: 1_000 });
  const { destinations, deliveries } = side;
  const definition = { label: 'Billing', type: 'WEBHOOK', config: { webhook: { url: 'https://a.example' } } } as const;
  mine = good(await destinations.create(definition, ada)).id;
  foreign = good(await destinations.create(definition, mallory)).id;
  const people = { label: 'People', type: 'EMAIL', config: { email: { to: ['a@x.example', 'b@x.example'] } } } as const;
  email = good(await destinations.create(people, ada)).id;
  existing = good(await deliveries.request({ input: toBilling, requester: ada })).id;
  foreignDelivery = good(await deliveries.request({ input: toBilling, requester: mallory })).id;
});
afterAll(() => side.close());

const prepare = (input: RequestDeliveryInput, requester: Requester = ada) =>
  side.intake.prepare({ to: [hook], ...input }, requester, now);

async function requestOf(input: RequestDeliveryInput) {
  const prepared = await prepare(input);
  if (!prepared.ok || !('order' in prepared) || prepared.order.command.type !== 'RequestDelivery')
    throw new Error(`refused: ${JSON.stringify(prepared)}`);
  return { id: prepared.order.id, ...prepared.order.command.request };
}

type Bad = [what: string, input: () => RequestDeliveryInput, ...paths: string[]];

describe('a request is refused, with the path of the problem,', () => {
  const targets: Bad[] = [
    ['a bad address', () => ({ to: [{ ...hook, address: 'billing' }] }), 'to.0.address'],
    [
      'a bad address in a fallback',
      () => ({ to: [{ ...hook, fallback: [{ ...hook, address: '' }] }] }),
      'to.0.fallback.0.address',
    ],
    ['an address without its channel', () => ({ to: [{ address: 'https://a.example' }] }), 'to.0.channel'],
    ['an unknown provider', () => ({ to: [{ ...hook, provider: 'pigeon' }] }), 'to.0.provider'],
    ['an unknown destination', () => ({ to: [{ destinationId: newId() }] }), 'to.0.destinationId'],
    ['a destination id that is none', () => ({ to: [{ destinationId: 'billing' }] }), 'to.0.destinationId'],
    ['another organization’s destination', () => ({ to: [{ destinationId: foreign }] }), 'to.0.destinationId'],
    ['a destination with a channel', () => ({ to: [{ destinationId: mine, channel: 'EMAIL' }] }), 'to.0.channel'],
    ['a destination with a provider', () => ({ to: [{ destinationId: mine, provider: 'smtp' }] }), 'to.0.provider'],
    ['neither destination nor address', () => ({ to: [hook, { channel: 'WEBHOOK' }] }), 'to.1'],
    ['destination and address', () => ({ to: [{ ...hook, destinationId: mine }] }), 'to.0'],
    ['an unknown recipient', () => ({ to: [{ recipientId: newId() }] }), 'to.0.recipientId'],
    ['an empty recipient', () => ({ to: [{ recipientId: '', channel: 'WEBHOOK' }] }), 'to.0.recipientId'],
    ['no targets', () => ({ to: [] }), 'to'],
    ['no targets, and no defaults', () => ({ to: null }), 'to'],
    ['101 targets', () => ({ to: Array(101).fill(hook) }), 'to'],
    ['11 routes', () => ({ to: [{ ...hook, fallback: Array(10).fill(hook) }] }), 'to.0'],
  ];
  const texts: Bad[] = [
    ['an idempotency key of 300 characters', () => ({ idempotencyKey: 'k'.repeat(300) }), 'idempotencyKey'],
    ['an empty idempotency key', () => ({ idempotencyKey: '' }), 'idempotencyKey'],
    ['a correlation id of 256 characters', () => ({ correlationId: 'c'.repeat(256) }), 'correlationId'],
    ['an unknown template', () => ({ templateId: newId() }), 'templateId'],
    ['51 tags', () => ({ tags: Array(51).fill('t') }), 'tags'],
    ['an empty tag and a long one', () => ({ tags: ['ok', '', 't'.repeat(101)] }), 'tags.1', 'tags.2'],
    ['metadata that is too large', () => ({ metadata: { note: 'x'.repeat(65_536) } }), 'metadata'],
    ['metadata that is nested too deeply', () => ({ idempotencyKey: 'k', metadata: nested(30_000) }), 'metadata'],
    ['personalization that is no object', () => ({ personalization: ['Ada'] }), 'personalization'],
    ['an SLA of no seconds', () => ({ slaSeconds: 0 }), 'slaSeconds'],
    ['a subject of two lines', () => ({ content: { subject: 'a\nBcc: b@x.example' } }), 'content.subject'],
    ['a subject of 999 characters', () => ({ content: { subject: 's'.repeat(999) } }), 'content.subject'],
    ['a text that is too large', () => ({ content: { text: 'ü'.repeat(1024 * 1024 + 1) } }), 'content.text'],
    ['data that is too large', () => ({ content: { data: 'x'.repeat(1024 * 1024) } }), 'content.data'],
  ];
  const attachments: Bad[] = [
    [
      'too large together',
      () => ({ content: { attachments: Array(2).fill(attachment({ base64: base64(600) }).content.attachments[0]) } }),
      'content.attachments',
    ],
    [
      'too many',
      () => ({ content: { attachments: Array(21).fill(attachment({ base64: '' }).content.attachments[0]) } }),
      'content.attachments',
    ],
    ['with a path for a name', () => attachment({ filename: '../q1.csv' }), 'content.attachments.0.filename'],
    ['named ..', () => attachment({ filename: '..' }), 'content.attachments.0.filename'],
    ['with a line break in the name', () => attachment({ filename: 'a\r\nb' }), 'content.attachments.0.filename'],
    ['of no type', () => attachment({ contentType: 'csv' }), 'content.attachments.0.contentType'],
    [
      'with a header in its type',
      () => attachment({ contentType: 'text/csv;\r\nX: y' }),
      'content.attachments.0.contentType',
    ],
    ['that is not base64', () => attachment({ base64: 'abc' }), 'content.attachments.0.base64'],
  ];
  const dependencies: Bad[] = [
    ['an unknown delivery', () => ({ dependsOn: [existing, newId()] }), 'dependsOn.1'],
    ['another organization’s delivery', () => ({ dependsOn: [foreignDelivery] }), 'dependsOn.0'],
    ['no id', () => ({ dependsOn: ['yesterday'] }), 'dependsOn.0'],
    ['101 deliveries', () => ({ dependsOn: Array(101).fill(existing) }), 'dependsOn'],
  ];
  const approvals: Bad[] = [
    ['nobody', () => ({ approval: { approvers: [] } }), 'approval.approvers'],
    ['the same person twice', () => ({ approval: { approvers: ['bob', 'bob'] } }), 'approval.approvers'],
    ['somebody without a name', () => ({ approval: { approvers: [''] } }), 'approval.approvers.0'],
    ['none of them', () => ({ approval: { approvers: ['bob'], minimum: 0 } }), 'approval.minimum'],
    ['somebody at once', () => ({ approval: { approvers: ['bob'], timeoutSeconds: 0 } }), 'approval.timeoutSeconds'],
  ];
  const expectRefused = async (_: string, input: () => RequestDeliveryInput, ...paths: string[]) =>
    expect(refusal(await prepare(input()))).toEqual({ code: 'BAD_USER_INPUT', paths });

  it.each(targets)('for its target: %s', expectRefused);
  it.each(texts)('for %s', expectRefused);
  it.each(attachments)('for attachments %s', expectRefused);
  it.each(dependencies)('for depending on %s', expectRefused);
  it.each(approvals)('for needing the approval of %s', expectRefused);

  it('for everything that is wrong with it at once', async () => {
    const input = { tags: [''], slaSeconds: -1, dependsOn: [newId()], content: { subject: '\n' } };
    expect(refusal(await prepare(input)).paths).toEqual(['slaSeconds', 'tags.0', 'content.subject', 'dependsOn.0']);
  });
});

/** What only the delivery itself can judge is judged by `domain/`; here, that it is asked. */
it.each<Bad>([
  ['a schedule in the past', () => ({ scheduledAt: new Date(0) }), 'scheduledAt'],
  [
    'an expiry before the schedule',
    () => ({ scheduledAt: new Date('2999-01-02'), expiresAt: new Date('2999-01-01') }),
    'expiresAt',
  ],
  ['more approvals than approvers', () => ({ approval: { approvers: ['bob'], minimum: 2 } }), 'approval.minimum'],
  [
    'a dependency on itself',
    () => ({ idempotencyKey: 'self', dependsOn: [deliveryIdForKey(ORGANIZATION, 'self')] }),
    'dependsOn.0',
  ],
])('a request with %s is refused and nothing is stored', async (_, input, ...paths) => {
  const head = await side.log.head();
  const result = await side.deliveries.request({ input: { to: [hook], ...input() }, requester: ada });
  expect(refusal(result)).toEqual({ code: 'BAD_USER_INPUT', paths });
  expect(await side.log.head()).toBe(head);
});

describe('a good request', () => {
  it('is recorded with every route in the order of its fallbacks', async () => {
    const smtp = { channel: 'EMAIL', address: 'ada@x.example', provider: 'smtp' } as const;
    const { legs } = await requestOf({
      to: [
        { destinationId: mine.toUpperCase(), fallback: [{ ...smtp, fallback: [hook] }, hook] },
        { destinationId: email },
      ],
    });
    const bare = { channel: 'WEBHOOK', address: 'https://billing.example/hook' };
    const person = { ...smtp, subject: expect.stringMatching(/^person:[\w-]{22}$/) };
    expect(legs).toEqual([
      { leg: 1, routes: [{ channel: 'WEBHOOK', destinationId: mine }, person, bare, bare], recipients: 1 },
      { leg: 2, routes: [{ channel: 'EMAIL', destinationId: email }], recipients: 2 },
    ]);
  });

  it('goes to the default destinations when it names none', async () => {
    side.defaults.push(mine, email);
    try {
      const { legs } = await requestOf({ to: null });
      expect(legs.map(({ routes }) => routes[0]?.destinationId)).toEqual([mine, email]);
    } finally {
      side.defaults.length = 0;
    }
  });

  it('may be as large as it may be', async () => {
    await requestOf({
      idempotencyKey: 'k'.repeat(255),
      tags: Array(50).fill('t'.repeat(100)),
      to: Array(100).fill(hook),
      content: { subject: 's'.repeat(998), text: 'x'.repeat(2 * 1024 * 1024), attachments: [] },
    });
  });

  // Base64 pads to a multiple of three: 1000 bytes become 1336 characters.
  it.each([999, 1_000])('may have attachments up to the limit: %i bytes', async (bytes) => {
    await requestOf(attachment({ base64: base64(bytes) }));
  });

  it('leaves out what is empty and keeps nulls inside of data', async () => {
    const data = { a: null, b: [null] };
    const request = await requestOf({ content: { subject: null, data }, tags: null, expiresAt: null, metadata: null });
    expect(request.content).toEqual({ data });
    expect(request).not.toHaveProperty('expiresAt');
    expect(request).not.toHaveProperty('metadata');
    expect(request.tags).toEqual([]);
  });

  it('counts its approval’s time from now', async () => {
    const { approval } = await requestOf({ approval: { approvers: ['bob'], timeoutSeconds: 90 } });
    expect(approval).toEqual({ approvers: ['bob'], minimum: 1, deadline: at(90) });
  });

  it('depends on each delivery once, however its id is written', async () => {
    const { dependsOn } = await requestOf({ dependsOn: [existing, existing.toUpperCase()] });
    expect(dependsOn).toEqual([existing]);
  });
});
const nested = (depth: number): never => JSON.parse('['.repeat(depth) + ']'.repeat(depth)) as never;
