import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type { LookupOptions, LookupResult, OutgoingMessage } from '../../../src/channels/channel.js';
import { newId } from '../../../src/commands/ids.js';
import { delivery } from '../../../src/domain/delivery.js';
import { ada, good } from '../../support/commands.js';
import { legOf, ORGANIZATION } from '../../support/deliveries.js';
import { collectingGarbage } from '../../support/garbage.js';
import type { TestDatabase } from '../../support/postgres.js';
import { type EngineWorld, engineDatabase, engineWorld } from './engine-world.js';

/** Attempts that a crash has left without an outcome, on a channel where nothing protects the receiver. */
let database: TestDatabase;
let world: EngineWorld;
beforeAll(async () => {
  database = await engineDatabase();
});
afterAll(() => database.close());
beforeEach(async () => {
  world = await engineWorld(database);
});
afterEach(() => world.close());

const about = { idempotency: 'none', inDoubt: 'hold' } as const;
const wait = { timeout: 15_000, interval: 10 };

async function requested(text: string): Promise<string> {
  const to = [{ channel: 'WEBHOOK', address: 'https://receiver.example/' }] as const;
  return good(await world.deliveries.request({ input: { to, content: { text } }, requester: ada })).id;
}

/** By an instance that is no more. */
async function begin(id: string, startedAt: Date): Promise<void> {
  const command = { type: 'StartAttempt', now: startedAt.toISOString(), leg: 1, provider: 'webhook' } as const;
  const envelope = { organizationId: ORGANIZATION, commandId: newId(), actor: 'engine' };
  expect(await world.executor.execute(delivery, { id, command, envelope })).toMatchObject({ ok: true });
}

/** Requested, and an attempt begun by an instance that is no more. */
async function begun(text: string, startedAt = new Date(Date.now() - 60_000)): Promise<string> {
  const id = await requested(text);
  await begin(id, startedAt);
  return id;
}
const newest = async (id: string) => (await world.log.readLast(`delivery-${id}`))?.type;
const events = async (id: string) => (await world.log.readStream(`delivery-${id}`)).slice(2);

/** The provider's records, by the text of the message. */
function records(answers: Record<string, () => LookupResult>) {
  const asked: (LookupOptions & { text: string | undefined })[] = [];
  const lookup = async ({ content: { text } }: OutgoingMessage, options: LookupOptions) => {
    asked.push({ text, ...options });
    return (answers[text ?? ''] as () => LookupResult)();
  };
  return { asked, lookup };
}

it('are settled by the provider’s records, where it has any and they say', async () => {
  const ids = [await begun('there'), await begun('not there')] as const;
  const { asked, lookup } = records({
    there: () => ({ kind: 'found', providerMessageId: 'm-7', delivered: false }),
    'not there': () => ({ kind: 'not-found' }),
  });
  world.start({ about, lookup });
  for (const id of ids) await expect.poll(() => newest(id), wait).toBe('AttemptSucceeded');
  expect(await events(ids[0])).toMatchObject([
    { type: 'AttemptSucceeded', data: { number: 1, providerMessageId: 'm-7', delivered: false } },
  ]);
  expect(await events(ids[1])).toMatchObject([
    { type: 'AttemptInDoubt', data: { number: 1, resolution: 'resend', lookup: 'not-found' } },
    { type: 'AttemptStarted', data: { number: 2 } },
    { type: 'AttemptSucceeded', data: { number: 2 } },
  ]);
  expect(world.sent).toEqual(['not there']);
  expect(asked.map(({ attemptKey }) => attemptKey).sort()).toEqual(ids.map((id) => `${id}_1`).sort());
});

it('are held, or sent again, as the policy says where the records do not say', async () => {
  const unclear = { 'cannot say': () => ({ kind: 'unknown' }) as const };
  const failing = {
    'has a defect': () => {
      throw new Error('a defect');
    },
  };
  const { asked, lookup } = records({ ...unclear, ...failing });
  const ids = [await begun('cannot say'), await begun('has a defect')];
  const engine = world.start({ about, lookup });
  for (const id of ids) await expect.poll(() => newest(id), wait).toBe('AttemptInDoubt');
  for (const id of ids) expect(await events(id)).toMatchObject([{ data: { resolution: 'hold', lookup: 'unknown' } }]);
  // It has been asked more than once.
  expect(asked).toHaveLength(6);
  expect(world.sent).toEqual([]);
  await world.stop(engine);

  const others = [await begun('held by the destination'), await begun('sent by the destination')] as const;
  const held = world.start({ about: { ...about, inDoubt: 'resend' }, config: { inDoubt: 'hold' } });
  await expect.poll(() => newest(others[0]), wait).toBe('AttemptInDoubt');
  await expect.poll(() => newest(others[1]), wait).toBe('AttemptInDoubt');
  await world.stop(held);
  const third = await begun('sent by the destination');
  world.start({ about, config: { inDoubt: 'resend' } });
  await expect.poll(() => newest(third), wait).toBe('AttemptSucceeded');
  expect(await events(others[0])).not.toMatchObject([{ data: { lookup: expect.anything() } }]);
  expect(world.sent).toEqual(['sent by the destination']);
});

it('are not taken for lost while the provider may still be at work on them', async () => {
  let isListed = false;
  const { asked, lookup } = records({
    'on its way': () => {
      if (isListed) return { kind: 'found', providerMessageId: 'm-8', delivered: true };
      isListed = true;
      return { kind: 'not-found' };
    },
  });
  const startedAt = new Date();
  const id = await begun('on its way', startedAt);
  world.start({ about, config: { timeout: 3_000 }, lookup });
  await expect.poll(() => newest(id), wait).toBe('AttemptSucceeded');
  expect(asked.map(({ since }) => since)).toEqual([startedAt, startedAt]);
  expect(Date.now()).toBeGreaterThanOrEqual(startedAt.getTime() + 5_000);
  expect(world.sent).toEqual([]);
});

it('are looked up as well when no answer came to a call that this process has made', async () => {
  let isAnswered = (_: LookupResult) => {};
  const clear = new Promise<LookupResult>((resolve) => {
    isAnswered = resolve;
  });
  const { lookup } = records({
    'taken 1': () => ({ kind: 'found', providerMessageId: 'm-9', delivered: false }),
    lost: () => ({ kind: 'not-found' }),
    'cannot say': () => ({ kind: 'unknown' }),
  });
  const silence = {
    kind: 'rejected',
    category: 'NETWORK',
    code: 'TIMEOUT',
    detail: 'no answer',
    inDoubt: true,
  } as const;
  world.start({
    about,
    config: { timeout: 100 },
    send: async ({ content }) => (content.text === 'answered' ? undefined : silence),
    lookup: async (message, options) => (message.content.text?.startsWith('slow') ? clear : lookup(message, options)),
  });
  const taken = await requested('taken 1');
  const lost = await requested('lost');
  const unclear = await requested('cannot say');
  await expect.poll(() => newest(taken), wait).toBe('AttemptSucceeded');
  expect((await events(taken)).at(-1)).toMatchObject({ data: { number: 1, providerMessageId: 'm-9' } });
  // What its provider has not had is a failure like any other, and is retried like any other.
  await expect.poll(async () => (await events(lost)).map(({ type }) => type), wait).toContain('RetryScheduled');
  expect((await events(lost))[0]).toMatchObject({ type: 'AttemptFailed', data: { failure: { code: 'TIMEOUT' } } });
  await expect.poll(() => newest(unclear), wait).toBe('AttemptInDoubt');
  expect((await events(unclear)).at(-1)).toMatchObject({ data: { resolution: 'hold', lookup: 'unknown' } });

  // Those that are asked about take no place from others: there are four places.
  const slow = await Promise.all(['slow 1', 'slow 2', 'slow 3', 'slow 4', 'slow 5'].map(requested));
  await expect.poll(() => world.sent.filter((text) => text.startsWith('slow')).length, wait).toBe(5);
  const answered = await requested('answered');
  await expect.poll(() => newest(answered), wait).toBe('AttemptSucceeded');
  isAnswered({ kind: 'found', providerMessageId: 'm-10', delivered: true });
  for (const id of slow) await expect.poll(() => newest(id), wait).toBe('AttemptSucceeded');
  expect(world.sent.filter((text) => text.startsWith('slow'))).toHaveLength(5);
});

it('are looked for a few at a time, however many there are', async () => {
  let [now, most] = [0, 0];
  const lookup = async (): Promise<LookupResult> => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 5));
    now--;
    return { kind: 'found', providerMessageId: 'm', delivered: true };
  };
  const ids = await Promise.all(Array.from({ length: 40 }, () => begun('one of many')));
  world.start({ about, lookup });
  for (const id of ids) await expect.poll(() => newest(id), wait).toBe('AttemptSucceeded');
  expect(most).toBe(8);
});

it('are held when the provider’s records do not answer, whatever is collected as garbage meanwhile', async () => {
  const id = await begun('no answer');
  let asked = 0;
  world.start({
    about,
    config: { timeout: 200 },
    lookup: async (_, { signal }) => {
      asked++;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      return { kind: 'unknown' };
    },
  });
  await collectingGarbage(() => expect.poll(() => newest(id), wait).toBe('AttemptInDoubt'));
  expect(await events(id)).toMatchObject([{ data: { resolution: 'hold', lookup: 'unknown' } }]);
  expect(asked).toBe(3);
});

it('are asked about by the next start when this one ends first', async () => {
  const id = await begun('asked twice');
  let asked = 0;
  const engine = world.start({
    about,
    lookup: async (_, { signal }) => {
      asked++;
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      return { kind: 'unknown' };
    },
  });
  await expect.poll(() => asked, wait).toBe(1);
  await world.stop(engine);
  expect(await newest(id)).toBe('AttemptStarted');
  world.start({ about, lookup: async () => ({ kind: 'found', providerMessageId: 'm', delivered: true }) });
  await expect.poll(() => newest(id), wait).toBe('AttemptSucceeded');
  expect(legOf((await world.executor.load(delivery, id)).state).attempts).toBe(1);
});

it('are found when the words of an instance that is no more reach the log after the next one has begun', async () => {
  const later = {
    kind: 'rejected',
    category: 'TEMPORARY',
    code: '451',
    detail: 'later',
    retryAfterMs: 60_000,
  } as const;
  world.start({ about, send: async () => later });
  const id = await requested('late');
  await expect.poll(() => newest(id), wait).toBe('RetryScheduled');
  await begin(id, new Date(Date.now() + 60_000));
  await expect.poll(() => newest(id), wait).toBe('AttemptInDoubt');
  expect((await events(id)).at(-1)).toMatchObject({ data: { number: 2, resolution: 'hold' } });
  expect(world.sent).toEqual(['late']);
});
