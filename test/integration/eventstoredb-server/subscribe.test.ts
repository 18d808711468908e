import { randomUUID } from 'node:crypto';
import {
  type AllStreamSubscription,
  EventStoreDBClient,
  excludeSystemEvents,
  type Position,
  StreamDeletedError,
  type StreamSubscription,
  streamNameFilter,
} from '@eventstore/db-client';
import { describe, expect, it } from 'vitest';
import { Empty, RawClient, ReadReq, readOptions } from './raw.js';
import { collect, eventStoreForFile, newEvent, newEvents, newStream } from './world.js';

const world = eventStoreForFile();

/** What a subscription is told, in order; ends with it. */
function follow(subscription: StreamSubscription | AllStreamSubscription) {
  const log: string[] = [];
  let heard = () => {};
  const note = (entry: string) => {
    log.push(entry);
    heard();
  };
  let problem: unknown;
  subscription
    .on('confirmation', () => note('confirmed'))
    .on('caughtUp', () => note('caught up'))
    .on('fellBehind', () => note('fell behind'))
    .on('data', ({ event }: { event?: { id: string } }) => note(event?.id ?? 'nothing'))
    .on('end', () => note('ended'))
    .on('error', (error: unknown) => {
      problem = error;
      note('failed');
    });
  return {
    log,
    get problem() {
      return problem;
    },
    async until(enough: (log: readonly string[]) => boolean) {
      await new Promise<void>((resolve) => {
        heard = () => enough(log) && resolve();
        heard();
      });
      return log;
    },
  };
}

async function appended(stream: string, count: number) {
  const events = newEvents(count);
  const { position } = await world.client.appendToStream(stream, events);
  return { ids: events.map(({ id }) => id), position: position as Position };
}

describe('to a stream', () => {
  it.each([
    ['start', 'start', 0],
    ['a revision, which is left out', 1n, 2],
    ['end', 'end', 4],
    ['a revision beyond the end', 3n, 4],
  ] as const)('gives history from %s, says it has caught up, then what comes', async (_, fromRevision, first) => {
    const stream = newStream();
    const history = (await appended(stream, 4)).ids.slice(first);
    const subscription = world.client.subscribeToStream(stream, { fromRevision });
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    await appended(`${stream}0`, 1);
    const live = [...(await appended(stream, 2)).ids, ...(await appended(stream, 1)).ids];
    await following.until((log) => log.includes(live[2] as string));
    expect(following.log).toEqual(['confirmed', ...history, 'caught up', ...live]);
    await subscription.unsubscribe();
  });

  it('that is not there yet waits for it, and begins again when it was deleted', async () => {
    const stream = newStream();
    const subscription = world.client.subscribeToStream(stream);
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    const before = (await appended(stream, 2)).ids;
    await following.until((log) => log.includes(before[1] as string));
    await world.client.deleteStream(stream);
    const after = (await appended(stream, 2)).ids;
    await following.until((log) => log.includes(after[1] as string));
    expect(following.log).toEqual(['confirmed', 'caught up', ...before, ...after]);
    await subscription.unsubscribe();
  });

  it('ends with an error when the stream is tombstoned, before or meanwhile', async () => {
    const stream = newStream();
    await appended(stream, 1);
    const following = follow(world.client.subscribeToStream(stream));
    await following.until((log) => log.includes('caught up'));
    await world.client.tombstoneStream(stream);
    await following.until((log) => log.includes('failed'));
    const late = follow(world.client.subscribeToStream(stream));
    await late.until((log) => log.includes('failed'));
    for (const { problem } of [following, late]) expect(problem).toBeInstanceOf(StreamDeletedError);
    expect(late.log).not.toContain('confirmed');
  });

  it('gives only what metadata leaves', async () => {
    const stream = newStream();
    const { ids } = await appended(stream, 5);
    await world.client.setStreamMetadata(stream, { maxCount: 2 });
    const subscription = world.client.subscribeToStream(stream);
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    expect(following.log).toEqual(['confirmed', ...ids.slice(3), 'caught up']);
    await subscription.unsubscribe();
  });

  it('goes through many pages', async () => {
    const stream = newStream();
    const { ids } = await appended(stream, 1_500);
    const subscription = world.client.subscribeToStream(stream);
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    expect(following.log).toEqual(['confirmed', ...ids, 'caught up']);
    await subscription.unsubscribe();
  });
});

describe('to $all', () => {
  it('from a position gives what comes after it, once and in order', async () => {
    const { position } = await appended(newStream(), 1);
    const history = (await appended(newStream(), 3)).ids;
    const subscription = world.client.subscribeToAll({ fromPosition: position });
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    const live = [...(await appended(newStream(), 2)).ids, ...(await appended(newStream(), 1)).ids];
    await following.until((log) => log.includes(live[2] as string));
    expect(following.log).toEqual(['confirmed', ...history, 'caught up', ...live]);
    await subscription.unsubscribe();
  });

  it('from the end gives only what comes', async () => {
    await appended(newStream(), 3);
    const subscription = world.client.subscribeToAll({ fromPosition: 'end' });
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    const { ids } = await appended(newStream(), 2);
    await following.until((log) => log.includes(ids[1] as string));
    expect(following.log).toEqual(['confirmed', 'caught up', ...ids]);
    await subscription.unsubscribe();
  });

  it('from the start gives system events too', async () => {
    for await (const { event } of world.client.subscribeToAll()) {
      expect(event).toMatchObject({ type: '$UserCreated', revision: 0n });
      break;
    }
  });

  it('misses and doubles nothing while many write', async () => {
    const prefix = `many${randomUUID()}-`;
    const subscription = world.client.subscribeToAll({
      fromPosition: 'end',
      filter: streamNameFilter({ prefixes: [prefix] }),
    });
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    const ids = (
      await Promise.all(Array.from({ length: 300 }, (_, n) => appended(`${prefix}${n % 20}`, 1 + (n % 5))))
    ).flatMap(({ ids }) => ids);
    const got = (log: readonly string[]) => log.filter((entry) => entry.length === 36);
    await following.until((log) => got(log).length >= ids.length);
    expect([...got(following.log)].sort()).toEqual([...ids].sort());
    await subscription.unsubscribe();
  });

  it('has caught up with what there was though others do not stop writing', async () => {
    let isWriting = true;
    const stream = newStream();
    const writers = Array.from({ length: 8 }, async () => {
      while (isWriting) await appended(stream, 1);
    });
    const subscriptions = [world.client.subscribeToAll(), world.client.subscribeToStream(stream)];
    await Promise.all(
      subscriptions.map((subscription) => follow(subscription).until((log) => log.includes('caught up'))),
    );
    expect(await collect(world.client.readAll())).not.toEqual([]);
    isWriting = false;
    await Promise.all(writers);
    for (const subscription of subscriptions) await subscription.unsubscribe();
  });

  it('that was not read for long fell behind, and catches up', async () => {
    const client = EventStoreDBClient.connectionString(world.server.url);
    const subscription = client.subscribeToAll({ fromPosition: 'end' });
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    subscription.pause();
    const { ids } = await appended(newStream(), 3_000);
    const large = newEvents(30).map((event) => ({ ...event, data: { text: 'x'.repeat(100_000) } }));
    await world.client.appendToStream(newStream(), large as never);
    await appended(newStream(), 3_000);
    subscription.resume();
    const last = (await appended(newStream(), 1)).ids[0] as string;
    await following.until((log) => log.includes(last) && log.lastIndexOf('caught up') > log.lastIndexOf('fell behind'));
    expect(following.log).toContain('fell behind');
    const got = following.log.filter((entry) => entry.length === 36);
    expect(got.slice(0, 3_000)).toEqual(ids);
    expect(got).toHaveLength(6_031);
    expect(new Set(got).size).toBe(got.length);
    await client.dispose();
  });
});

describe('with a filter', () => {
  it('checkpoints come at the interval, and when it has caught up, and tell how far it has looked', async () => {
    const { position } = await appended(newStream(), 1);
    await appended(newStream(), 100);
    const checkpoints: bigint[] = [];
    const subscription = world.client.subscribeToAll({
      fromPosition: position,
      filter: streamNameFilter({
        prefixes: [`nothing${randomUUID()}`],
        checkpointInterval: 2,
        maxSearchWindow: 10,
        checkpointReached: async (_, { commit, prepare }) => {
          expect(prepare).toBe(commit);
          checkpoints.push(commit - position.commit);
        },
      }),
    });
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    expect(checkpoints).toEqual([20n, 40n, 60n, 80n, 100n]);
    await appended(newStream(), 45);
    const marker = await appended(newStream(), 1);
    await expect.poll(() => checkpoints, { timeout: 20_000 }).toEqual([20n, 40n, 60n, 80n, 100n, 120n, 140n]);
    expect(following.log).toEqual(['confirmed', 'caught up']);
    expect(marker.position.commit - position.commit).toBe(146n);
    await subscription.unsubscribe();
  });

  it('one that caught up between two of them says where', async () => {
    const { position } = await appended(newStream(), 1);
    await appended(newStream(), 7);
    const checkpoints: bigint[] = [];
    const subscription = world.client.subscribeToAll({
      fromPosition: position,
      filter: excludeSystemEvents({
        checkpointReached: async (_, { commit }) => void checkpoints.push(commit - position.commit),
      }),
    });
    const following = follow(subscription);
    await following.until((log) => log.includes('caught up'));
    expect(checkpoints).toEqual([7n]);
    await subscription.unsubscribe();
  });

  it('needs an interval', async () => {
    const raw = new RawClient(world.server.port);
    const filter = new ReadReq.Options.FilterOptions().setCount(new Empty());
    filter.setEventType(new ReadReq.Options.FilterOptions.Expression().setRegex('a'));
    const options = readOptions().setFilter(filter).setSubscription(new ReadReq.Options.SubscriptionOptions());
    await expect(collect(raw.read(options))).rejects.toMatchObject({ code: 3 });
    raw.close();
  });

  it('leaves out system events', async () => {
    const stream = newStream();
    await world.client.setStreamMetadata(stream, { maxCount: 9 });
    const finish = newEvent('finish');
    await world.client.appendToStream(stream, [finish]);
    const types = [];
    for await (const { event } of world.client.subscribeToAll({ filter: excludeSystemEvents() })) {
      types.push(event?.type);
      if (event?.id === finish.id) break;
    }
    expect(types.filter((type) => type?.startsWith('$'))).toEqual([]);
  });
});
