import { afterAll, beforeAll, expect, it } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import type { EventReader, RecordedEvent } from '../../../src/event-store/event-store.js';
import { idsOf, newEvent, temporaryFolder } from '../../support/logs.js';
import { type Acknowledged, type Appender, compileEventStore } from './compiled-log.js';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
let compiled: Awaited<ReturnType<typeof compileEventStore>>;
const appenders: Appender[] = [];
function startAppender(): Appender {
  const appender = compiled.appendTo(folder.path);
  appenders.push(appender);
  return appender;
}

beforeAll(async () => {
  folder = await temporaryFolder();
  compiled = await compileEventStore();
});
afterAll(async () => {
  for (const appender of appenders) await appender.kill();
  await compiled.remove();
  await folder.remove();
});

/** All facts that a log must keep about itself, whatever has happened to its writers. */
async function expectConsistent(log: EventReader): Promise<RecordedEvent[]> {
  const all = await log.readAll(0n, 1e9);
  expect(all.map(({ position }) => Number(position))).toEqual(all.map((_, index) => index + 1));
  expect(await log.head()).toBe(BigInt(all.length));
  const streams = new Map<string, RecordedEvent[]>();
  for (const event of all) streams.set(event.streamId, [...(streams.get(event.streamId) ?? []), event]);
  for (const [streamId, events] of streams) {
    expect(events.map(({ revision }) => revision)).toEqual(events.map((_, index) => index));
    expect(await log.readStream(streamId)).toEqual(events);
    expect(await log.readLast(streamId)).toEqual(events.at(-1));
  }
  return all;
}

function expectWhole(all: readonly RecordedEvent[]) {
  const parts = new Map<string, number>();
  const sizes = new Map<string, number>();
  for (const { data } of all) {
    parts.set(String(data.append), (parts.get(String(data.append)) ?? 0) + 1);
    sizes.set(String(data.append), Number(data.of));
  }
  expect(parts).toEqual(sizes);
}

it('a writer killed at any moment leaves all it acknowledged, whole appends only, and a log that can be written on', async () => {
  const acknowledged: Acknowledged[] = [];
  for (const count of [1, 150, 400]) {
    const appender = startAppender();
    await appender.acknowledges(count);
    await appender.kill();
    acknowledged.push(...appender.acknowledged);

    const log = EmbeddedLog.open(folder.path);
    const all = await expectConsistent(log);
    expectWhole(all);
    const stored = new Map(all.map((event) => [event.id, event]));
    for (const { streamId, revision, ids } of acknowledged)
      for (const [index, id] of ids.entries())
        expect(stored.get(id)).toMatchObject({ streamId, revision: revision - ids.length + 1 + index });
    const after = await log.append(`after-${count}`, 'no-stream', [newEvent({ append: count, nth: 0, of: 1 })]);
    expect(after).toMatchObject({ ok: true, position: BigInt(all.length + 1) });
    await log.close();
  }
});

it('a reader in another process than the writer’s sees every event once, in order, as it comes', async () => {
  const appender = startAppender();
  await appender.acknowledges(1);
  const reader = EmbeddedLogReader.open(folder.path);
  const stop = new AbortController();
  const seen: RecordedEvent[] = [];
  const after = await reader.head();
  for await (const { events } of reader.subscribe({ after, signal: stop.signal })) {
    seen.push(...events);
    if (seen.length >= 300) stop.abort();
  }
  expect(seen.map(({ position }) => position)).toEqual(seen.map((_, index) => after + BigInt(index + 1)));
  await appender.kill();
  const all = await expectConsistent(reader);
  expect(idsOf(all)).toEqual(expect.arrayContaining(appender.acknowledged.flatMap(({ ids }) => ids)));
  await reader.close();
});
