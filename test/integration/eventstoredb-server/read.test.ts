import { randomUUID } from 'node:crypto';
import { binaryEvent, eventTypeFilter, StreamDeletedError, StreamNotFoundError } from '@eventstore/db-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Empty, type Options, RawClient, ReadReq, readOptions } from './raw.js';
import { collect, eventStoreForFile, idsOf, newEvent, newEvents, newStream, revisionsOf } from './world.js';

const world = eventStoreForFile();
let raw: RawClient;
beforeAll(() => {
  raw = new RawClient(world.server.port);
});
afterAll(() => raw.close());

async function appended(count: number, stream = newStream()) {
  const events = newEvents(count);
  const { position } = await world.client.appendToStream(stream, events);
  return { stream, ids: events.map(({ id }) => id), position: position?.commit as bigint };
}

describe('a stream', () => {
  const revisions = async (stream: string, options: Parameters<typeof world.client.readStream>[1]) =>
    revisionsOf(await collect(world.client.readStream(stream, options)));

  it.each([
    [{}, [0, 1, 2, 3, 4]],
    [{ fromRevision: 2n }, [2, 3, 4]],
    [{ fromRevision: 1n, maxCount: 2 }, [1, 2]],
    [{ fromRevision: 5n }, []],
    [{ fromRevision: 2n ** 64n - 1n }, []],
    [{ fromRevision: 'end' }, []],
    [{ maxCount: 0 }, []],
    [{ direction: 'backwards', fromRevision: 'end' }, [4, 3, 2, 1, 0]],
    [{ direction: 'backwards', fromRevision: 'end', maxCount: 2 }, [4, 3]],
    [{ direction: 'backwards', fromRevision: 1n }, [1, 0]],
    [{ direction: 'backwards', fromRevision: 50n, maxCount: 1 }, [4]],
    [{ direction: 'backwards', fromRevision: 'start' }, [0]],
  ] as const)('is read %o', async (options, expected) => {
    const { stream } = await appended(5);
    expect(await revisions(stream, options)).toEqual(expected);
  });

  it('of many pages is read whole, in both directions', async () => {
    const { stream, ids } = await appended(1_000);
    expect(idsOf(await collect(world.client.readStream(stream)))).toEqual(ids);
    const backwards = world.client.readStream(stream, { direction: 'backwards', fromRevision: 'end' });
    expect(idsOf(await collect(backwards))).toEqual(ids.reverse());
  });

  it('that is not there is not found, nor is one whose name only begins alike', async () => {
    const { stream } = await appended(1);
    for (const direction of ['forwards', 'backwards'] as const)
      await expect(collect(world.client.readStream(stream.slice(0, -1), { direction }))).rejects.toThrow(
        StreamNotFoundError,
      );
  });

  it('that was tombstoned says so, by name', async () => {
    const { stream } = await appended(1, newStream('Grüße'));
    await world.client.tombstoneStream(stream);
    const error = await collect(world.client.readStream(stream)).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(StreamDeletedError);
    expect(decodeURIComponent((error as StreamDeletedError).streamName)).toBe(stream);
  });
});

describe('$all', () => {
  it('from a position includes it forwards and leaves it out backwards', async () => {
    const { position, ids } = await appended(4);
    const at = (commit: bigint) => ({ commit, prepare: commit });
    const all = (options: object) => collect(world.client.readAll({ maxCount: 2, ...options }));
    expect(idsOf(await all({ fromPosition: at(position - 1n) }))).toEqual(ids.slice(2));
    expect(idsOf(await all({ fromPosition: at(position - 1n), direction: 'backwards' }))).toEqual([ids[1], ids[0]]);
    expect(idsOf(await all({ fromPosition: 'end', direction: 'backwards' }))).toEqual([ids[3], ids[2]]);
    expect(await all({ fromPosition: 'end' })).toEqual([]);
    expect(await all({ fromPosition: 'start', direction: 'backwards' })).toEqual([]);
    expect(await all({ fromPosition: at(position + 1_000n) })).toEqual([]);
    expect(idsOf(await all({ fromPosition: at(2n ** 63n - 1n), direction: 'backwards' }))).toEqual([ids[3], ids[2]]);
  });

  it('has everything once, in order of positions that rise, with commit and prepare alike', async () => {
    const [one, other] = [await appended(300), await appended(700)];
    const forwards = (await collect(world.client.readAll())).map(({ event }) => event);
    const backwards = (await collect(world.client.readAll({ direction: 'backwards', fromPosition: 'end' }))).map(
      ({ event }) => event,
    );
    expect(backwards.reverse()).toEqual(forwards);
    for (const [index, event] of forwards.entries()) {
      expect(event?.position?.commit).toBe(event?.position?.prepare);
      if (index > 0) expect(event?.position?.commit).toBeGreaterThan(forwards[index - 1]?.position?.commit as bigint);
    }
    const mine = forwards.filter((event) => [one.stream, other.stream].includes(event?.streamId ?? ''));
    expect(mine.map((event) => event?.id)).toEqual([...one.ids, ...other.ids]);
  });

  it('has the system’s own events from the start, and metadata and tombstones where they were written', async () => {
    const first = await collect(world.client.readAll({ maxCount: 1 }));
    expect(first[0]?.event).toMatchObject({ streamId: '$user-admin', type: '$UserCreated', revision: 0n });
    const { stream, position } = await appended(1);
    await world.client.setStreamMetadata(stream, { maxCount: 5 });
    await world.client.tombstoneStream(stream);
    const after = await collect(world.client.readAll({ fromPosition: { commit: position, prepare: position } }));
    expect(after.map(({ event }) => [event?.streamId, event?.type, event?.revision])).toEqual([
      [stream, 'test', 0n],
      [`$$${stream}`, '$metadata', 0n],
      [stream, '$streamDeleted', 2n ** 63n - 1n],
    ]);
  });
});

describe('links', () => {
  it('are followed when asked for, with the event’s own position and the link beside it', async () => {
    const { stream } = await appended(4);
    const links = newStream('links');
    const link = (target: string) => binaryEvent({ type: '$>', data: Buffer.from(target) });
    const gone = newStream();
    await world.client.appendToStream(links, [link(`2@${stream}`), link(`9@${stream}`), link(`0@${gone}`)]);
    const [event] = await collect(world.client.readStream(stream, { fromRevision: 2n, maxCount: 1 }));
    const [followed, beyond, nowhere] = await collect(world.client.readStream(links, { resolveLinkTos: true }));
    expect(followed?.event).toEqual(event?.event);
    expect(followed?.link).toMatchObject({ streamId: links, revision: 0n, type: '$>' });
    expect(followed?.commitPosition).toBe(followed?.link?.position?.commit);
    for (const broken of [beyond, nowhere]) expect(broken).toMatchObject({ link: { type: '$>' } });
    expect([beyond?.event, nowhere?.event]).toEqual([undefined, undefined]);
    const [asItIs] = await collect(world.client.readStream(links));
    expect(asItIs).toMatchObject({ event: { type: '$>' } });
    expect(asItIs?.link).toBeUndefined();
  });
});

describe('options that the client does not use', () => {
  const all = (options: Options) => collect(raw.read(options));
  const filterOf = (on: 'stream' | 'type', how: { regex?: string; prefixes?: string[] }) => {
    const expression = new ReadReq.Options.FilterOptions.Expression();
    expression.setRegex(how.regex ?? '').setPrefixList(how.prefixes ?? []);
    const filter = new ReadReq.Options.FilterOptions().setCount(new Empty()).setCheckpointintervalmultiplier(1);
    return on === 'stream' ? filter.setStreamIdentifier(expression) : filter.setEventType(expression);
  };
  const idOf = (response: Awaited<ReturnType<typeof all>>[number]) =>
    response.getEvent()?.getEvent()?.getId()?.getString();

  it('ids in two halves are the same ids', async () => {
    const { stream, ids } = await appended(3);
    const structured = readOptions(stream).setUuidOption(new ReadReq.Options.UUIDOption().setStructured(new Empty()));
    const halves = (await all(structured)).map((response) => response.getEvent()?.getEvent()?.getId()?.getStructured());
    const hex = halves.map((half) =>
      [half?.getMostSignificantBits(), half?.getLeastSignificantBits()]
        .map((bits) =>
          BigInt.asUintN(64, BigInt(bits ?? 0))
            .toString(16)
            .padStart(16, '0'),
        )
        .join(''),
    );
    expect(hex).toEqual(ids.map((id) => id.replaceAll('-', '')));
  });

  it.each([
    ['names by prefixes', 'stream', (name: string) => ({ prefixes: [`${name}-b`, `${name}-c`] }), [1, 2]],
    ['names by a regular expression', 'stream', (name: string) => ({ regex: `^${name}-[ab]$` }), [0, 1]],
    ['types by prefixes', 'type', (name: string) => ({ prefixes: [`${name}a`] }), [0]],
    ['types by a regular expression', 'type', (name: string) => ({ regex: `${name}[^b]$` }), [0, 2]],
    [
      'by the regular expression, when there is one',
      'type',
      (name: string) => ({ regex: `${name}b`, prefixes: ['x'] }),
      [1],
    ],
  ] as const)('$all is read with a filter in both directions: %s', async (_, on, how, expected) => {
    const name = `f${randomUUID().replaceAll('-', '')}`;
    const ids: string[] = [];
    for (const part of ['a', 'b', 'c']) {
      const event = newEvent(`${name}${part}`);
      ids.push(event.id);
      await world.client.appendToStream(`${name}-${part}`, [event]);
    }
    const wanted = expected.map((index) => ids[index]);
    const filtered = () => readOptions().setFilter(filterOf(on, how(name)));
    expect((await all(filtered())).map(idOf)).toEqual(wanted);
    const end = new ReadReq.Options.AllOptions().setEnd(new Empty());
    expect((await all(filtered().setAll(end).setReadDirection(1))).map(idOf)).toEqual(wanted.toReversed());
    expect((await all(filtered().setCount('1'))).map(idOf)).toEqual(wanted.slice(0, 1));
  });

  it('the older protocol’s positions come when asked for', async () => {
    const { stream, position } = await appended(6);
    await world.client.setStreamMetadata(stream, { truncateBefore: 4 });
    const control = new ReadReq.Options.ControlOption().setCompatibility(1);
    const responses = await all(readOptions(stream).setControlOption(control));
    expect(responses.map((response) => response.getContentCase())).toEqual([5, 1, 1, 6]);
    expect(responses[0]?.getFirstStreamPosition()).toBe('4');
    expect(responses.at(-1)?.getLastStreamPosition()).toBe('5');
    const last = (await all(readOptions().setControlOption(control))).at(-1)?.getLastAllStreamPosition();
    expect(last?.getCommitPosition()).toBe(String(position + 1n));
  });

  it.each<[string, (options: Options) => unknown]>([
    ['no stream', (options) => options.clearAll()],
    ['no UUID option', (options) => options.clearUuidOption()],
    ['no count', (options) => options.clearCount()],
    ['no filter option', (options) => options.clearNoFilter()],
    [
      'a filter on a stream',
      (options) => options.setStream(readOptions('a').getStream()).setFilter(filterOf('type', {})),
    ],
    ['a filter on nothing', (options) => options.setFilter(new ReadReq.Options.FilterOptions())],
    ['a regular expression that is none', (options) => options.setFilter(filterOf('type', { regex: '(' }))],
    [
      'a subscription backwards',
      (options) => options.setReadDirection(1).setSubscription(new ReadReq.Options.SubscriptionOptions()),
    ],
  ])('%s is refused', async (_, change) => {
    const options = readOptions();
    change(options);
    await expect(collect(raw.read(options))).rejects.toMatchObject({ code: 3 });
  });

  it('an event is read that is larger than the client takes', async () => {
    const stream = newStream();
    const text = 'ü'.repeat(10 * 1024 * 1024);
    await world.client.appendToStream(stream, newEvent('large', { text }), { deadline: 60_000 });
    const [response] = await all(readOptions(stream));
    const data = Buffer.from(response?.getEvent()?.getEvent()?.getData_asU8() ?? []);
    expect(data.length).toBeGreaterThan(17 * 1024 * 1024);
    expect(data.equals(Buffer.from(JSON.stringify({ text })))).toBe(true);
  });

  it('no options at all are refused', async () => {
    await expect(collect(raw.read(undefined))).rejects.toMatchObject({ code: 3 });
  });

  it('a filter that the client names is the same as one by hand', async () => {
    const type = `type${randomUUID()}`;
    await world.client.appendToStream(newStream(), newEvents(3, type));
    const subscription = world.client.subscribeToAll({ filter: eventTypeFilter({ prefixes: [type] }) });
    let count = 0;
    for await (const { event } of subscription) {
      expect(event?.type).toBe(type);
      if (++count === 3) break;
    }
  });
});
