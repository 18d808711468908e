import { randomUUID } from 'node:crypto';
import timestamp from 'google-protobuf/google/protobuf/timestamp_pb.js';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { BatchAppendReq, type BatchAppendResp, Empty, RawClient, StreamIdentifier, UUID } from './raw.js';
import { collect, eventStoreForFile, idsOf, newStream } from './world.js';

/** BatchAppend on the wire: what the official client never does, but may. */

const world = eventStoreForFile();
let raw: RawClient;
let call: ReturnType<RawClient['batchAppend']>;
let answers: Map<string, BatchAppendResp>;
let ended: Promise<void>;
beforeAll(() => {
  raw = new RawClient(world.server.port);
});
function openCall(): void {
  call = raw.batchAppend();
  answers = new Map();
  call.on('data', (answer: BatchAppendResp) => {
    const id = uuidOf(answer);
    if (answers.has(id)) throw new Error(`a second answer to ${id}`);
    answers.set(id, answer);
  });
  ended = new Promise((resolve, reject) => call.on('end', resolve).on('error', reject));
  ended.catch(() => undefined);
}
beforeEach(openCall);
afterEach(() => call.cancel());
afterAll(() => raw.close());

/** Answers name their append in two halves of 64 bits. */
function uuidOf(answer: BatchAppendResp): string {
  const halves = answer.getCorrelationId()?.getStructured();
  const hex = [halves?.getMostSignificantBits(), halves?.getLeastSignificantBits()]
    .map((bits) =>
      BigInt.asUintN(64, BigInt(bits ?? 0))
        .toString(16)
        .padStart(16, '0'),
    )
    .join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

interface Part {
  readonly id: string;
  /** Given in the first part. */
  readonly stream?: string;
  readonly deadline?: number;
  readonly events?: readonly { readonly id?: string; readonly type?: string; readonly contentType?: string }[];
  readonly isFinal?: boolean;
}

function send({ id, stream, deadline, events = [], isFinal = false }: Part): void {
  const request = new BatchAppendReq().setCorrelationId(new UUID().setString(id)).setIsFinal(isFinal);
  if (stream !== undefined) {
    const name = Buffer.from(stream).toString('base64');
    const options = new BatchAppendReq.Options().setStreamIdentifier(new StreamIdentifier().setStreamName(name));
    if (deadline !== undefined) options.setDeadline(timestamp.Timestamp.fromDate(new Date(deadline)));
    request.setOptions(options.setAny(new Empty() as never));
  }
  for (const { id: eventId = randomUUID(), type = 'test', contentType = 'application/json' } of events) {
    const message = new BatchAppendReq.ProposedMessage().setId(new UUID().setString(eventId)).setData('e30=');
    if (type !== '') message.getMetadataMap().set('type', type);
    if (contentType !== '') message.getMetadataMap().set('content-type', contentType);
    request.addProposedMessages(message);
  }
  call.write(request);
}

const answerTo = (id: string) =>
  expect
    .poll(() => answers.get(id), { timeout: 20_000 })
    .toBeDefined()
    .then(() => answers.get(id));
const problemOf = (answer: BatchAppendResp | undefined) => ({
  code: answer?.getError()?.getCode(),
  details: answer?.getError()?.getDetails()?.getTypeName(),
});
const read = (stream: string) => collect(world.client.readStream(stream));

it('the parts of several appends may come mixed, and the answers name stream and expectation', async () => {
  const appends = Array.from({ length: 3 }, () => ({ id: randomUUID(), stream: newStream() }));
  const events = appends.map(() => Array.from({ length: 3 }, () => ({ id: randomUUID() })));
  for (const part of [0, 1, 2])
    for (const [index, { id, stream }] of appends.entries())
      send({ id, ...(part === 0 && { stream }), events: [events[index]?.[part] ?? {}], isFinal: part === 2 });
  for (const [index, { id, stream }] of appends.entries()) {
    const answer = await answerTo(id);
    expect(answer?.getSuccess()?.getCurrentRevision()).toBe('2');
    expect(Buffer.from(answer?.getStreamIdentifier()?.getStreamName_asU8() ?? []).toString()).toBe(stream);
    expect(answer?.hasAny()).toBe(true);
    expect(idsOf(await read(stream))).toEqual(events[index]?.map((event) => event.id));
  }
});

it('an append whose deadline is over is answered so, and stored neither then nor when the rest of it comes', async () => {
  const [late, unfinished, stream] = [randomUUID(), randomUUID(), newStream()];
  send({ id: late, stream, deadline: Date.now() - 1, events: [{}] });
  send({ id: unfinished, stream, deadline: Date.now() + 200, events: [{}] });
  for (const id of [late, unfinished]) {
    expect(problemOf(await answerTo(id))).toEqual({ code: 4, details: 'event_store.client.Timeout' });
    send({ id, events: [{}], isFinal: true });
  }
  const next = randomUUID();
  send({ id: next, stream, deadline: Date.now() + 60_000, events: [{}], isFinal: true });
  expect((await answerTo(next))?.getSuccess()?.getCurrentRevision()).toBe('0');
  expect(await read(stream)).toHaveLength(1);
});

it.each([
  ['without a type', { type: '' }],
  ['without a content type', { contentType: '' }],
  ['without an id that is a UUID', { id: 'one' }],
])('an append with an event %s is a bad request, and others go on', async (_, event) => {
  const [bad, good, stream] = [randomUUID(), randomUUID(), newStream()];
  send({ id: bad, stream, events: [{}, event], isFinal: true });
  expect(problemOf(await answerTo(bad))).toEqual({ code: 3, details: 'event_store.client.BadRequest' });
  send({ id: good, stream, events: [{}], isFinal: true });
  expect((await answerTo(good))?.getSuccess()?.getCurrentRevision()).toBe('0');
});

it('an append that the log does not take leaves the stream where it was, for those sent with it and after', async () => {
  const stream = newStream();
  const [before, refused, ...after] = Array.from({ length: 5 }, () => randomUUID()) as [string, string, ...string[]];
  send({ id: before, stream, events: [{}], isFinal: true });
  send({ id: refused, stream, events: Array.from({ length: 65_537 }, () => ({ id: randomUUID() })), isFinal: true });
  for (const id of after) send({ id, stream, events: [{}], isFinal: true });
  expect(problemOf(await answerTo(refused)).code).toBe(3);
  for (const id of [before, ...after]) await answerTo(id);
  const last = randomUUID();
  send({ id: last, stream, events: [{}], isFinal: true });
  const stored = [...answers.values()].filter((answer) => answer.hasSuccess()).length + 1;
  expect((await answerTo(last))?.getSuccess()?.getCurrentRevision()).toBe(String(stored - 1));
  expect(await read(stream)).toHaveLength(stored);
});

it('an append without options ends the call', async () => {
  send({ id: randomUUID(), events: [{}], isFinal: true });
  await expect(ended).rejects.toMatchObject({ code: 3 });
});

it('what is not a message ends the call', async () => {
  const broken = { serializeBinary: () => Uint8Array.of(0x1a, 0xff, 0xff) };
  call.write(broken as never);
  await expect(ended).rejects.toThrow();
  const id = randomUUID();
  openCall();
  send({ id, stream: newStream(), events: [{}], isFinal: true });
  await answerTo(id);
});

it('the call ends when its caller has said all, and all is answered', async () => {
  const ids = Array.from({ length: 50 }, () => randomUUID());
  for (const id of ids) send({ id, stream: newStream(), events: [{}], isFinal: true });
  call.end();
  await ended;
  expect([...answers.keys()].sort()).toEqual(ids.sort());
});
