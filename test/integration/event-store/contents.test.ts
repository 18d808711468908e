import { randomBytes } from 'node:crypto';
import { appendFile, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { contentStoreOf } from '../../../src/app/contents.js';
import { copyContents } from '../../../src/cli/log-contents.js';
import type { DeliveryRequested } from '../../../src/domain/delivery-events.js';
import { EventCodec, subjectsOf } from '../../../src/event-store/codec.js';
import { ContentCollector, removeContentsOf } from '../../../src/event-store/content/collector.js';
import { ContentFiles } from '../../../src/event-store/content/content-files.js';
import { Contents } from '../../../src/event-store/content/contents.js';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import type { EventStore } from '../../../src/event-store/event-store.js';
import { KeyedEventStore } from '../../../src/event-store/keyed-event-store.js';
import { closedFields, SealedFields } from '../../../src/event-store/sealed-fields.js';
import { MemoryKeys } from '../../support/keys.js';

const LOG = '10000000-0000-4000-8000-000000000001';
const at = '2026-03-02T12:00:00.000Z';
const envelope = { organizationId: 'clinic', commandId: 'c', actor: 'ada' };
const eventId = (n: number) => `f0000000-0000-4000-8000-${String(n).padStart(12, '0')}`;

/** One of each that can be large. */
const content = {
  subject: 'Your biopsy',
  text: `Dear Jane \ud800 ${'lorem '.repeat(2_000)}`,
  html: `<p>${'Jane '.repeat(10_000)}</p>`,
  data: { rows: Array.from({ length: 2_000 }, (_, row) => ({ row, name: 'Jane Roe' })) },
  attachments: [
    { filename: 'biopsy.pdf', contentType: 'application/pdf', base64: randomBytes(400_001).toString('base64') },
    { filename: 'note.txt', contentType: 'text/plain', base64: Buffer.from('small').toString('base64') },
  ],
};
const personalization = { story: 'Jane '.repeat(2_000) };
const requested = (more: object = {}): DeliveryRequested =>
  ({
    type: 'DeliveryRequested',
    at,
    data: {
      organizationId: 'clinic',
      subject: 'person:jane',
      priority: 'HIGH',
      legs: [
        { leg: 1, recipients: 1, routes: [{ channel: 'EMAIL', address: 'jane@example.com', subject: 'person:jane' }] },
      ],
      content,
      personalization,
      tags: ['lab'],
      ...more,
    },
  }) as DeliveryRequested;

let folder: string;
let log: EmbeddedLog;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'waybill-contents-'));
  log = EmbeddedLog.open(folder);
});
afterEach(async () => {
  await log.close();
  await rm(folder, { recursive: true, force: true });
});

function world({ place = 'content', logId = LOG, acceptsLost = false, appends = log as EventStore } = {}) {
  const keys = new MemoryKeys();
  const contents = new Contents(new ContentFiles(join(folder, place)), log, { logId, acceptsLost });
  const codec = new EventCodec(new SealedFields(keys, contents));
  const store = new KeyedEventStore(appends, keys, contents);
  const encode = (event: DeliveryRequested, n = 1) => {
    keys.prepare(subjectsOf([event], 'clinic', 'person:jane'));
    return codec.encode(event, eventId(n), envelope, { streamId: `delivery-${n}`, subject: 'person:jane' });
  };
  const request = (event: DeliveryRequested, n = 1) => store.append(`delivery-${n}`, 'no-stream', [encode(event, n)]);
  const read = async (n = 1) => {
    const [recorded] = await log.readStream(`delivery-${n}`);
    if (!recorded) throw new Error('it is not in the log');
    return { recorded, data: codec.decode<DeliveryRequested>(recorded).event.data };
  };
  const collect = (graceMs: number, destroyed: readonly string[] = []) =>
    new ContentCollector({
      contents,
      reader: log,
      destroyedOf: async (ids) => new Set(ids.filter((id) => destroyed.includes(id))),
      graceMs,
      nowMs: () => Date.now() + 1,
      collected: () => undefined,
      failed: (error) => {
        throw error;
      },
    }).run();
  return { keys, contents, codec, store, encode, request, read, collect };
}

async function files(place = 'content'): Promise<string[]> {
  const all = await readdir(join(folder, place), { recursive: true }).catch(() => []);
  return all.filter((name) => /[0-9a-f]{64}$/.test(name)).map((name) => join(folder, place, name));
}

describe('a large request', () => {
  it('is a small event, its large parts are files without a word in clear, and it comes back whole', async () => {
    const { codec, request, read } = world();
    await request(requested());
    const [recorded] = await log.readStream('delivery-1');
    const { length } = JSON.stringify(recorded?.data);
    expect(length).toBeLessThan(4_000);
    expect(await files()).toHaveLength(5);
    for (const file of await files()) {
      const bytes = await readFile(file);
      for (const planted of ['Jane Roe', 'Jane Jane', 'lorem lorem']) expect(bytes.includes(planted)).toBe(false);
    }
    const { data } = await read();
    expect(data.content.attachments?.map(({ base64 }) => base64.length)).toEqual([0, 8]);
    expect(data.stored?.map(({ path }) => path).sort()).toEqual([
      'content.attachments.0',
      'content.data',
      'content.html',
      'content.text',
      'personalization',
    ]);
    expect(await codec.complete(data, 'delivery-1')).toEqual(requested().data);
    // Nothing of it is kept with the event that the log remembers.
    expect(JSON.stringify(codec.decode(recorded as never).event)).not.toContain('lorem');
  });

  it('that is not large is all in its event, and needs nothing fetched', async () => {
    const { codec, request, read } = world();
    const small = requested({ content: { text: 'Dear Jane' }, personalization: undefined });
    await request(small);
    expect(await files()).toEqual([]);
    const { data } = await read();
    expect(data.content).toEqual({ text: 'Dear Jane' });
    expect(codec.complete(data, 'delivery-1')).toBeUndefined();
    expect(await log.readStream('waybill-content')).toEqual([]);
  });

  it('is an outline to read models, which need neither keys nor contents', async () => {
    const { request } = world();
    await request(requested());
    await rm(join(folder, 'content'), { recursive: true });
    const [recorded] = await log.readStream('delivery-1');
    const { data } = new EventCodec(closedFields).decode<DeliveryRequested>(recorded as never).event;
    expect(data).toMatchObject({ content: {}, tags: ['lab'] });
  });

  it('that was recorded whole, before there was a place for its parts, is read as ever', async () => {
    const { keys, codec, read, encode, store } = world();
    keys.prepare(subjectsOf([requested()], 'clinic', 'person:jane'));
    const before = new EventCodec(new SealedFields(keys));
    const event = before.encode(requested(), eventId(1), envelope, { streamId: 'delivery-1', subject: 'person:jane' });
    await store.append('delivery-1', 'no-stream', [event]);
    const { data } = await read();
    expect(data).toEqual(requested().data);
    expect(codec.complete(data, 'delivery-1')).toBeUndefined();
    expect(encode(requested(), 2).data.stored).toBeDefined();
  });

  it('in a bulk has its parts stored before any event of it', async () => {
    const { store, encode } = world();
    await store.appendMany(
      [1, 2, 3].map((n) => ({ streamId: `delivery-${n}`, expected: 'no-stream', events: [encode(requested(), n)] })),
    );
    expect(await files()).toHaveLength(15);
  });
});

describe('what is lost or changed', () => {
  const stored = async () => {
    const made = world();
    await made.request(requested());
    const { data } = await made.read();
    const path = (name: string) => {
      const hash = data.stored?.find(({ path }) => path === name)?.hash as string;
      return async () => (await files()).find((file) => file.endsWith(hash)) as string;
    };
    return { ...made, data, fileOf: path };
  };

  it('a file that is gone is named', async () => {
    const { codec, data, fileOf } = await stored();
    const file = await fileOf('content.attachments.0')();
    await rm(file);
    await expect(codec.complete(data, 'delivery-1')).rejects.toMatchObject({
      name: 'ContentLost',
      message: expect.stringMatching(new RegExp(`${file.split('/').at(-1)} is not in ${join(folder, 'content')}`)),
    });
  });

  it.each([
    ['longer', (file: string) => appendFile(file, 'x')],
    ['cut off', async (file: string) => writeFile(file, (await readFile(file)).subarray(0, 100))],
    [
      'another one',
      async (file: string) => {
        const bytes = await readFile(file);
        bytes[50] = (bytes[50] as number) ^ 1;
        await writeFile(file, bytes);
      },
    ],
  ])('a file that is %s is damaged', async (_, change) => {
    const { codec, data, fileOf } = await stored();
    await change(await fileOf('content.html')());
    await expect(codec.complete(data, 'delivery-1')).rejects.toMatchObject({
      name: 'ContentLost',
      message: expect.stringContaining('damaged'),
    });
  });

  it('references that were exchanged, or taken away, give nothing', async () => {
    const { codec, data, read } = await stored();
    const [one, other, ...rest] = data.stored ?? [];
    const exchanged = { ...data, stored: [{ ...one, path: other?.path }, { ...other, path: one?.path }, ...rest] };
    await expect(codec.complete(exchanged, 'delivery-1')).rejects.toThrow();
    await expect(codec.complete(data, 'delivery-2')).rejects.toThrow();
    const { recorded } = await read();
    const less = {
      ...recorded,
      data: { ...recorded.data, stored: (recorded.data.stored as object[]).slice(1) as never },
    };
    expect(() => codec.decode(less)).toThrow('were changed');
    const { stored: _, ...none } = recorded.data;
    expect(() => codec.decode({ ...recorded, data: none })).toThrow('were changed');
  });

  it('after the key is destroyed nothing can be read, and the files go', async () => {
    const { keys, contents, codec, data, read } = await stored();
    const key = data.stored?.[0]?.key as string;
    keys.destroy('person:jane');
    await expect(codec.complete(data, 'delivery-1')).rejects.toThrow('was erased');
    expect((await read()).data).toMatchObject({ content: { text: '[erased]' }, erased: true });
    expect((await read()).data.stored).toBeUndefined();
    await removeContentsOf([key], contents);
    expect(await files()).toEqual([]);
  });
});

describe('when it cannot be stored', () => {
  it('nothing is appended, and the reason is said', async () => {
    await writeFile(join(folder, 'content'), 'a file where a folder should be');
    const { request } = world();
    await expect(request(requested())).rejects.toMatchObject({
      name: 'ContentUnavailable',
      code: 'CONTENT_UNAVAILABLE',
      message: expect.stringContaining(join(folder, 'content')),
    });
    expect(await log.head()).toBe(0n);
    await rm(join(folder, 'content'));
    await request(requested());
    expect(await log.readStream('delivery-1')).toHaveLength(1);
  });

  it('an instance that looks elsewhere is told so, and one that has lost everything may go on when that is accepted', async () => {
    await world().request(requested(), 1);
    const elsewhere = world({ place: 'elsewhere' });
    expect(await elsewhere.contents.isTheLogs()).toBe(false);
    await expect(elsewhere.request(requested(), 2)).rejects.toThrow('are not those in');
    expect(await files('elsewhere')).toEqual([]);
    const accepting = world({ place: 'elsewhere', acceptsLost: true });
    await accepting.request(requested(), 2);
    expect(await accepting.contents.isTheLogs()).toBe(true);
    expect(await world().contents.isTheLogs()).toBe(true);
  });

  it('the place of another log is left alone', async () => {
    await world().request(requested(), 1);
    const other = EmbeddedLog.open(await mkdtemp(join(folder, 'other-')));
    const contents = new Contents(new ContentFiles(join(folder, 'content')), other, {
      logId: '20000000-0000-4000-8000-000000000002',
      acceptsLost: true,
    });
    expect(await contents.isTheLogs()).toBe(false);
    await expect(contents.storeFirst([], async () => 'appended')).rejects.toThrow('another event log');
    await other.close();
  });
});

describe('a backup', () => {
  it('has all contents and whose they are, but none that is damaged; put in place, they are read again', async () => {
    const { request, read } = world();
    await request(requested());
    const [damaged] = await files();
    const body = await readFile(damaged as string);
    await appendFile(damaged as string, 'x');
    const [here, backup] = [new ContentFiles(join(folder, 'content')), new ContentFiles(join(folder, 'backup'))];
    expect(await copyContents(here, backup)).toMatchObject({ contents: 4, damaged: 1 });
    await writeFile(damaged as string, body);
    // What is there already is not copied again.
    expect(await copyContents(here, backup)).toEqual({ contents: 1, bytes: body.length, damaged: 0 });
    await rm(join(folder, 'content'), { recursive: true });
    expect(await copyContents(backup, here)).toMatchObject({ contents: 5, damaged: 0 });
    const again = world();
    expect(await again.contents.isTheLogs()).toBe(true);
    for (const { key, hash, size } of (await read()).data.stored ?? [])
      await again.contents.check({ key, streamId: 'delivery-1', hash }, size);
  });

  it('of a place where nothing was ever stored is none', async () => {
    const [here, backup] = [new ContentFiles(join(folder, 'content')), new ContentFiles(join(folder, 'backup'))];
    expect(await copyContents(here, backup)).toEqual({ contents: 0, bytes: 0, damaged: 0 });
    expect(await readdir(folder)).not.toContain('backup');
  });
});

it.each([
  [undefined, '/data/content'],
  ['/mnt/shared', '/mnt/shared'],
  ['s3://waybill', 's3://waybill/'],
  ['s3://waybill/large/ones/?region=eu-central-1&endpoint=http://127.0.0.1:9000', 's3://waybill/large/ones/'],
])('the setting %s means %s', (content, place) => {
  expect(contentStoreOf({ dataDir: '/data', content }).place).toBe(place);
});

describe('the collector', () => {
  it('removes what no event names once its time of grace is over, and nothing else', async () => {
    const { collect, request, store, encode } = world();
    await request(requested());
    const kept = await files();
    // Its stream was taken by somebody else’s request.
    await store.append('delivery-1', 'no-stream', [encode(requested(), 1)]);
    expect(await files()).toHaveLength(10);
    expect(await collect(3_600_000)).toMatchObject({ contents: 10, orphans: 0, unreadable: 0 });
    expect(await collect(0)).toMatchObject({ contents: 10, orphans: 5, unreadable: 0, bytes: expect.any(Number) });
    expect((await files()).sort()).toEqual(kept.sort());
    expect(await collect(0)).toMatchObject({ contents: 5, orphans: 0 });
  });

  it('leaves alone what an append under way will name, however long that takes', async () => {
    let go = () => {};
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    let isWaiting = () => {};
    const waiting = new Promise<void>((resolve) => {
      isWaiting = resolve;
    });
    const slow = Object.create(log, {
      append: {
        value: async (...args: Parameters<EventStore['append']>) => {
          isWaiting();
          await gate;
          return await log.append(...args);
        },
      },
    }) as EventStore;
    const { request, collect, codec, read } = world({ appends: slow });
    const appended = request(requested());
    await waiting;
    expect(await collect(0)).toMatchObject({ contents: 5, orphans: 0 });
    go();
    expect(await appended).toMatchObject({ ok: true });
    expect(await codec.complete((await read()).data, 'delivery-1')).toEqual(requested().data);
  });

  it('removes what is sealed with a destroyed key at once, as after an older copy was put back', async () => {
    const { collect, request, read } = world();
    await request(requested());
    const key = (await read()).data.stored?.[0]?.key as string;
    expect(await collect(3_600_000, [key])).toMatchObject({ contents: 5, orphans: 0, unreadable: 5 });
    expect(await files()).toEqual([]);
  });

  it('judges nothing where the contents are not this log’s', async () => {
    await world().request(requested());
    const stranger = world({ logId: '20000000-0000-4000-8000-000000000002' });
    expect(await stranger.collect(0)).toBeUndefined();
    expect(await files()).toHaveLength(5);
  });
});
