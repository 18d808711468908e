import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DestinationInput } from '../../../src/commands/destinations.js';
import { newId } from '../../../src/commands/ids.js';
import { destination, hidden } from '../../../src/domain/destination.js';
import type { JsonObject } from '../../../src/domain/vocabulary.js';
import { ada, type CommandSide, commandSide, good, mallory, mayAccess, refusal } from '../../support/commands.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

const url = 'https://billing.example/hook';
const webhook = (config: JsonObject = {}, rest: Partial<DestinationInput> = {}): DestinationInput => ({
  label: 'Billing',
  type: 'WEBHOOK',
  config: { webhook: { url, ...config } },
  ...rest,
});
const email: DestinationInput = {
  label: 'Mail',
  type: 'EMAIL',
  config: { email: { to: ['a@x.example'], password: 'pw' } },
};

const create = async (input = webhook()) => good(await side.destinations.create(input, ada));
const update = (id: string, input: DestinationInput) => side.destinations.update(id, input, ada, mayAccess);
/** What the log and every reader of it has; secrets apart. */
const shown = async (id: string) => {
  const { state } = await side.executor.load(destination, id);
  return state.tag === 'absent' ? undefined : state.definition;
};
/** The configuration as it is used. */
const used = async (id: string) => (await side.directory.find(id))?.config.webhook;

describe('creating a destination', () => {
  it('keeps its secrets apart from its configuration', async () => {
    const { id } = await create(webhook({ secret: 'own', headers: { 'X-Api/Key': 'k' } }));
    expect(await shown(id)).toMatchObject({
      config: { webhook: { url, secret: hidden, headers: { 'X-Api/Key': hidden } } },
      secrets: { 'webhook/secret': 'own', 'webhook/headers/X-Api~1Key': 'k' },
    });
    expect(await used(id)).toEqual({ url, secret: 'own', headers: { 'X-Api/Key': 'k' } });
  });

  it('makes a signing secret where none is given, and shows it once', async () => {
    const { id, signingSecret } = await create();
    expect(signingSecret).toBe('whsec_1');
    expect(await used(id)).toEqual({ url, secret: 'whsec_1' });
    expect(await create(webhook({ secret: 'own' }))).not.toHaveProperty('signingSecret');
    expect(await create(email)).not.toHaveProperty('signingSecret');
  });

  it.each<[string, DestinationInput, ...string[]]>([
    ['no label', webhook({}, { label: '' }), 'label'],
    ['a long label', webhook({}, { label: 'l'.repeat(201) }), 'label'],
    ['a long description', webhook({}, { description: 'd'.repeat(2_001) }), 'description'],
    ['a configuration that is no object', webhook({}, { type: 'EMAIL', config: 'smtp' }), 'config'],
    ['a bad configuration', webhook({ url: 'ftp://x' }), 'config.webhook.url'],
    [
      'a secret that is only hidden',
      webhook({ headers: { Authorization: hidden } }),
      'config.webhook.headers.Authorization',
    ],
    ['a bad retry policy', webhook({}, { retry: { maxAttempts: 0 } }), 'retry.maxAttempts'],
    ['two problems', webhook({ url: '' }, { label: '' }), 'label', 'config.webhook.url'],
  ])('with %s is refused and stores nothing', async (_, input, ...paths) => {
    expect(refusal(await side.destinations.create(input, ada))).toEqual({ code: 'BAD_USER_INPUT', paths });
    expect(await side.log.head()).toBe(0n);
  });

  it('completes its retry policy from the configuration and the defaults; what is named outright wins', async () => {
    const retryOf = async (input: DestinationInput) => (await shown((await create(input)).id))?.retry;
    expect(await retryOf(webhook())).toBeUndefined();
    expect(await retryOf(webhook({ retryConfig: { maxRetries: 2 } }))).toMatchObject({
      maxAttempts: 3,
      strategy: 'EXPONENTIAL',
    });
    const both = webhook({ retryConfig: { maxRetries: 2 } }, { retry: { maxAttempts: 9, jitter: null } });
    expect(await retryOf(both)).toMatchObject({ maxAttempts: 9, jitter: 0.1 });
  });
});

describe('updating a destination', () => {
  it('keeps every secret that is sent back hidden, and takes what is new', async () => {
    const { id } = await create(webhook({ secret: 'old', headers: { Authorization: 'a', 'X/Y~Z': 'b' } }));
    const headers = { Authorization: 'new', 'X/Y~Z': hidden };
    good(await update(id, webhook({ secret: hidden, headers }, { label: 'Moved' })));
    expect(await used(id)).toEqual({ url, secret: 'old', headers: { Authorization: 'new', 'X/Y~Z': 'b' } });
    expect(JSON.stringify((await shown(id))?.config)).not.toMatch(/old|new|"b"/);
    expect((await shown(id))?.label).toBe('Moved');
  });

  it('forgets a secret whose place is gone', async () => {
    const { id } = await create(webhook({ secret: 's', headers: { Authorization: 'a' } }));
    good(await update(id, webhook({ secret: hidden })));
    expect((await shown(id))?.secrets).toEqual({ 'webhook/secret': 's' });
  });

  it('refuses to keep what was never there', async () => {
    const { id } = await create(webhook({ secret: 's' }));
    const paths = ['config.webhook.headers.New'];
    expect(refusal(await update(id, webhook({ secret: hidden, headers: { New: hidden } })))).toMatchObject({ paths });
  });

  it('does not send a kept credential to another server; a signing secret goes nowhere and may stay', async () => {
    const { id } = await create(webhook({ secret: 's', headers: { Authorization: 'a' } }));
    const moved = { url: 'https://mallory.example', secret: hidden };
    const kept = await update(id, webhook({ ...moved, headers: { Authorization: hidden } }));
    expect(refusal(kept)).toEqual({ code: 'BAD_USER_INPUT', paths: ['config.webhook.headers.Authorization'] });
    good(await update(id, webhook({ ...moved, headers: { Authorization: 'b' } })));
    expect(await used(id)).toEqual({ url: 'https://mallory.example', secret: 's', headers: { Authorization: 'b' } });
  });

  it('cannot make another channel of it', async () => {
    const { id } = await create();
    expect(refusal(await update(id, email))).toEqual({ code: 'BAD_USER_INPUT', paths: ['type'] });
  });

  it('enables it again', async () => {
    const { id } = await create();
    await side.destinations.note(id, { type: 'DisableDestination', reason: 'HTTP_410' });
    expect((await side.directory.find(id))?.disabled).toBe('HTTP_410');
    good(await update(id, webhook({ secret: hidden })));
    expect(await side.directory.find(id)).not.toHaveProperty('disabled');
  });

  it('does not bring back a secret that was replaced meanwhile', async () => {
    const { id } = await create(webhook({ secret: 'old' }));
    let rotated: string | undefined;
    side.before.destinationOrder = async () => {
      side.before.destinationOrder = async () => {};
      rotated = good(await side.destinations.rotateSecret(id, { overlapSeconds: 60 }, ada, mayAccess)).signingSecret;
    };
    await update(id, webhook({ secret: hidden }));
    expect(await used(id)).toMatchObject({ secret: rotated });
  });
});

describe('rotating the signing secret', () => {
  it('shows the new one once and keeps the old one beside it for a while', async () => {
    const { id, signingSecret: old } = await create(webhook({ headers: { Authorization: 'a' } }));
    const before = Date.now();
    const { signingSecret } = good(await side.destinations.rotateSecret(id, { overlapSeconds: 3_600 }, ada, mayAccess));
    const config = (await used(id)) as JsonObject;
    expect(config).toMatchObject({ secret: signingSecret, previousSecret: old, headers: { Authorization: 'a' } });
    expect(Date.parse(config.previousUntil as string) - before - 3_600_000).toBeLessThan(60_000);
    expect(Date.parse(config.previousUntil as string) - before).toBeGreaterThanOrEqual(3_600_000);
    expect((await shown(id))?.config).toMatchObject({ webhook: { secret: hidden, previousSecret: hidden } });
  });

  it.each([-1, 30 * 86_400 + 1])('is refused for an overlap of %i seconds', async (seconds) => {
    const { id } = await create();
    expect(
      refusal(await side.destinations.rotateSecret(id, { overlapSeconds: seconds }, ada, mayAccess)).paths,
    ).toEqual(['overlapSeconds']);
  });

  it('is refused where nothing is signed', async () => {
    const { id } = await create(email);
    expect(refusal(await side.destinations.rotateSecret(id, { overlapSeconds: 60 }, ada, mayAccess))).toEqual({
      code: 'BAD_USER_INPUT',
      paths: ['id'],
    });
  });
});

describe('deleting a destination', () => {
  it('takes it away for deliveries to come', async () => {
    const { id } = await create();
    good(await side.destinations.delete(id, ada, mayAccess));
    expect(await side.directory.find(id)).toBeUndefined();
    expect(refusal(await side.destinations.delete(id, ada, mayAccess)).code).toBe('NOT_FOUND');
    expect(refusal(await update(id, webhook())).code).toBe('NOT_FOUND');
  });
});

it('whose organization is another’s, a destination is not there for anybody else', async () => {
  const { id } = good(await side.destinations.create(webhook(), mallory));
  const attempts = (which: string) =>
    Promise.all([
      update(which, webhook()),
      side.destinations.rotateSecret(which, { overlapSeconds: 60 }, ada, mayAccess),
      side.destinations.delete(which, ada, mayAccess),
    ]);
  const answers = await attempts(id);
  expect(answers).toEqual(await attempts(newId()));
  for (const answer of answers) expect(refusal(answer).code).toBe('NOT_FOUND');
  expect(await side.log.readStream(`destination-${id}`)).toHaveLength(1);
});

it('disabling what is not there, or not any more, or already, records nothing', async () => {
  const { id } = await create();
  await side.destinations.note(id, { type: 'DisableDestination', reason: 'HTTP_410' });
  await side.destinations.note(id, { type: 'DisableDestination', reason: 'HTTP_410' });
  expect(await side.log.readStream(`destination-${id}`)).toHaveLength(2);
  await side.destinations.delete(id, ada, mayAccess);
  await side.destinations.note(id, { type: 'DisableDestination', reason: 'HTTP_410' });
  await side.destinations.note(newId(), { type: 'DisableDestination', reason: 'HTTP_410' });
  expect(await side.log.head()).toBe(3n);
});
