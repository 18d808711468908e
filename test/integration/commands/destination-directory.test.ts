import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DestinationDirectory } from '../../../src/commands/destination-directory.js';
import { newId } from '../../../src/commands/ids.js';
import { EmbeddedLogReader } from '../../../src/event-store/embedded-log-reader.js';
import { ada, type CommandSide, commandSide, good, mayAccess } from '../../support/commands.js';

let side: CommandSide;
/** A directory of another instance: nobody tells it of changes but the log. */
let directory: DestinationDirectory;
beforeEach(async () => {
  side = await commandSide();
  directory = new DestinationDirectory(side.executor);
});
afterEach(() => side.close());

const webhook = (path: string) =>
  ({
    label: 'Billing',
    type: 'WEBHOOK',
    config: { webhook: { url: `https://a.example/${path}`, secret: 's' } },
  }) as const;
const create = async () => good(await side.destinations.create(webhook('1'), ada)).id;
const move = (id: string, path: string) => side.destinations.update(id, webhook(path), ada, mayAccess);
const urlOf = async (id: string) => ((await directory.find(id))?.config.webhook as { url: string } | undefined)?.url;

/** Lets reads of the log wait until told, with what they found before. */
function holdReads() {
  const readStream = side.log.readStream.bind(side.log);
  let release = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  vi.spyOn(side.log, 'readStream').mockImplementationOnce(async (...args) => {
    const found = await readStream(...args);
    await released;
    return found;
  });
  return () => release();
}

describe('the directory of destinations', () => {
  it('reads a destination once, though many ask at once, and has it at hand from then on', async () => {
    const id = await create();
    const reads = vi.spyOn(side.log, 'readStream');
    expect(directory.peek(id)).toBeUndefined();
    const found = await Promise.all([directory.find(id), directory.find(id), directory.find(id)]);
    expect(new Set(found).size).toBe(1);
    expect(found[0]).toMatchObject({ id, config: { webhook: { secret: 's' } } });
    expect(await directory.find(id)).toBe(found[0]);
    expect(directory.peek(id)).toBe(found[0]);
    expect(reads).toHaveBeenCalledTimes(1);
  });

  it('does not remember that something is not there', async () => {
    const id = newId();
    const reads = vi.spyOn(side.log, 'readStream');
    expect([await directory.find(id), await directory.find(id)]).toEqual([undefined, undefined]);
    expect(reads).toHaveBeenCalledTimes(2);
  });

  it('reads again what it was told to forget', async () => {
    const id = await create();
    expect(await urlOf(id)).toBe('https://a.example/1');
    await move(id, '2');
    expect(await urlOf(id)).toBe('https://a.example/1');
    directory.forget(id);
    expect(await urlOf(id)).toBe('https://a.example/2');
  });

  it('does not keep what it read before a change that it heard of while reading', async () => {
    const id = await create();
    const release = holdReads();
    const slow = urlOf(id);
    await move(id, '2');
    directory.forget(id);
    const fresh = await urlOf(id);
    release();
    expect([await slow, fresh]).toEqual(['https://a.example/1', 'https://a.example/2']);
    expect(await urlOf(id)).toBe('https://a.example/2');
  });

  it('tries again after a read that failed', async () => {
    const id = await create();
    vi.spyOn(side.log, 'readStream').mockRejectedValueOnce(new Error('the store does not answer'));
    await expect(directory.find(id)).rejects.toThrow('does not answer');
    expect(await urlOf(id)).toBe('https://a.example/1');
  });
});

describe('a directory that follows the log', () => {
  it('hears of every change that others make, and stops when told', async () => {
    const id = await create();
    const other = await create();
    const stop = new AbortController();
    directory.follow(side.log, await side.log.head(), stop.signal);
    const [before, untouched] = [await directory.find(id), await directory.find(other)];
    await move(id, '2');
    await expect.poll(() => directory.peek(id)).not.toBe(before);
    expect(await urlOf(id)).toBe('https://a.example/2');
    expect(directory.peek(other)).toBe(untouched);
    await side.destinations.delete(id, ada, mayAccess);
    await expect.poll(() => directory.peek(id)).toBeUndefined();
    expect(await directory.find(id)).toBeUndefined();
    stop.abort();
    await directory.stopped();
  });

  it('hears of changes that another process makes', async () => {
    const id = await create();
    const reader = EmbeddedLogReader.open(side.folder);
    const stop = new AbortController();
    directory.follow(reader, await reader.head(), stop.signal);
    const before = await directory.find(id);
    await side.destinations.note(id, { type: 'DisableDestination', reason: 'HTTP_410' });
    await expect.poll(() => directory.peek(id)).not.toBe(before);
    expect((await directory.find(id))?.disabled).toBe('HTTP_410');
    stop.abort();
    await directory.stopped();
    await reader.close();
  });
});
