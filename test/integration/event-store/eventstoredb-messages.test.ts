import shared from '@eventstore/db-client/generated/shared_pb.js';
import streams from '@eventstore/db-client/generated/streams_pb.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { NewEvent } from '../../../src/event-store/event-store.js';
import { appendRequests, decodeAppendAnswer, propose } from '../../../src/event-store/eventstoredb/append-messages.js';
import { decodeReadMessage } from '../../../src/event-store/eventstoredb/read-messages.js';

/** The messages that are encoded and decoded by hand, against the client's generated classes. */

const { AllStreamPosition, StreamIdentifier, UUID } = shared;
const { BatchAppendReq, BatchAppendResp, ReadResp } = streams;

const text = fc.string({ unit: 'grapheme', maxLength: 200 });
const bigText = fc.tuple(text, fc.nat({ max: 40_000 })).map(([start, length]) => start.padEnd(length, 'ö'));
const newEvent: fc.Arbitrary<NewEvent> = fc.record({
  id: fc.uuid(),
  type: text,
  data: fc.record({ text: fc.oneof(text, bigText), number: fc.double({ noNaN: true, noDefaultInfinity: true }) }),
  metadata: fc.dictionary(text, text, { maxKeys: 5, noNullPrototype: true }),
});
const expected = fc.oneof(fc.constant('no-stream' as const), fc.maxSafeNat());
const position = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
const asJson = (bytes: Uint8Array): unknown => JSON.parse(Buffer.from(bytes).toString('utf8'));

describe('messages to and from EventStoreDB', () => {
  it('append what they are given', () => {
    fc.assert(
      fc.property(
        fc.uuid(),
        text,
        expected,
        fc.array(newEvent, { minLength: 1, maxLength: 8 }),
        (id, stream, at, all) => {
          const [bytes, ...others] = appendRequests(id, { streamId: stream, expected: at }, all.map(propose));
          expect(others).toEqual([]);
          const request = BatchAppendReq.deserializeBinary(bytes as Buffer);
          expect(request.getCorrelationId()?.getString()).toBe(id);
          expect(request.getIsFinal()).toBe(true);
          const options = request.getOptions();
          expect(Buffer.from(options?.getStreamIdentifier()?.getStreamName_asU8() ?? []).toString()).toBe(stream);
          expect(options?.hasNoStream()).toBe(at === 'no-stream');
          if (typeof at === 'number') expect(options?.getStreamPosition()).toBe(String(at));
          const proposed = request.getProposedMessagesList().map((message) => ({
            id: message.getId()?.getString(),
            type: message.getMetadataMap().get('type'),
            contentType: message.getMetadataMap().get('content-type'),
            data: asJson(message.getData_asU8()),
            metadata: asJson(message.getCustomMetadata_asU8()),
          }));
          const sent = all.map((event) => JSON.parse(JSON.stringify({ ...event, contentType: 'application/json' })));
          expect(proposed).toEqual(sent);
        },
      ),
    );
  });

  it('are cut where a server would find them too long, and only the last says that it is', () => {
    const events = Array.from({ length: 9 }, (_, n): NewEvent => {
      return {
        id: `0000000${n}-0000-4000-8000-000000000000`,
        type: 'T',
        data: { text: 'x'.repeat(900_000) },
        metadata: {},
      };
    });
    const target = { streamId: 'a', expected: 'no-stream' } as const;
    const parts = [...appendRequests('c', target, events.map(propose))];
    for (const part of parts) expect(part.length).toBeLessThan(4 * 1024 * 1024);
    const requests = parts.map((part) => BatchAppendReq.deserializeBinary(part));
    expect(requests.map((request) => request.getIsFinal())).toEqual([false, false, true]);
    expect(requests.map((request) => request.hasOptions())).toEqual([true, false, false]);
    expect(requests.flatMap((request) => request.getProposedMessagesList()).map((m) => m.getId()?.getString())).toEqual(
      events.map(({ id }) => id),
    );
  });

  it('say what was appended where', () => {
    fc.assert(
      fc.property(fc.uuid(), fc.maxSafeNat(), fc.option(position), fc.boolean(), (id, revision, at, isStructured) => {
        const success = new BatchAppendResp.Success().setCurrentRevision(String(revision));
        if (at === null) success.setNoPosition(undefined);
        else success.setPosition(new AllStreamPosition().setCommitPosition(String(at)).setPreparePosition(String(at)));
        const response = new BatchAppendResp().setCorrelationId(uuid(id, isStructured)).setSuccess(success);
        expect(decodeAppendAnswer(Buffer.from(response.serializeBinary()))).toEqual({
          correlationId: id,
          answer: { kind: 'appended', revision, position: at ?? undefined },
        });
      }),
    );
  });

  it('give events as they were recorded', () => {
    fc.assert(
      fc.property(
        newEvent,
        text,
        fc.maxSafeNat(),
        position,
        fc.boolean(),
        (event, stream, revision, at, isStructured) => {
          fc.pre(!stream.startsWith('$') && !event.type.startsWith('$'));
          const recorded = new ReadResp.ReadEvent.RecordedEvent()
            .setId(uuid(event.id, isStructured))
            .setStreamIdentifier(new StreamIdentifier().setStreamName(Buffer.from(stream)))
            .setStreamRevision(String(revision))
            .setCommitPosition(String(at))
            .setPreparePosition(String(at))
            .setData(Buffer.from(JSON.stringify(event.data)))
            .setCustomMetadata(Buffer.from(JSON.stringify(event.metadata)));
          recorded.getMetadataMap().set('created', '17637072001234567').set('type', event.type);
          const response = new ReadResp().setEvent(
            new ReadResp.ReadEvent().setEvent(recorded).setCommitPosition(String(at)),
          );
          const bytes = Buffer.from(response.serializeBinary());
          expect(decodeReadMessage(bytes)).toEqual({
            kind: 'event',
            bytes: bytes.length,
            event: {
              ...JSON.parse(JSON.stringify(event)),
              ...{ streamId: stream, revision, position: at, created: '2025-11-21T06:40:00.123Z' },
            },
          });
        },
      ),
    );
  });

  it('give what is not JSON as text, and of the server’s own events only where they are', () => {
    const given = (stream: string, type: string) => {
      const recorded = new ReadResp.ReadEvent.RecordedEvent()
        .setStreamIdentifier(new StreamIdentifier().setStreamName(Buffer.from(stream)))
        .setCommitPosition('7')
        .setData(Buffer.from('[1, 2'));
      recorded.getMetadataMap().set('type', type);
      return decodeReadMessage(
        Buffer.from(new ReadResp().setEvent(new ReadResp.ReadEvent().setEvent(recorded)).serializeBinary()),
      );
    };
    expect(given('others', 'Binary')).toMatchObject({ event: { data: { text: '[1, 2' }, metadata: {} } });
    expect(given('$$others', 'Binary')).toEqual({ kind: 'checkpoint', position: 7n });
    expect(given('links', '$>')).toEqual({ kind: 'checkpoint', position: 7n });
  });

  it('say how far a subscription is', () => {
    const decoded = (response: InstanceType<typeof ReadResp>) =>
      decodeReadMessage(Buffer.from(response.serializeBinary()));
    const checkpoint = new ReadResp.Checkpoint().setCommitPosition('9').setPreparePosition('9');
    expect(decoded(new ReadResp().setCheckpoint(checkpoint))).toEqual({ kind: 'checkpoint', position: 9n });
    expect(decoded(new ReadResp().setCaughtUp(new ReadResp.CaughtUp()))).toEqual({ kind: 'caught-up' });
    expect(decoded(new ReadResp().setFellBehind(new ReadResp.FellBehind()))).toEqual({ kind: 'fell-behind' });
    expect(decoded(new ReadResp().setConfirmation(new ReadResp.SubscriptionConfirmation()))).toEqual({ kind: 'other' });
  });

  it('that end too early are an error', () => {
    const { id, type, data } = { id: 'e', type: 'T', data: { a: 1 } };
    const [request] = appendRequests('c', { streamId: 's', expected: 0 }, [propose({ id, type, data, metadata: {} })]);
    expect(() => decodeReadMessage((request as Buffer).subarray(0, 20))).toThrow('cut off');
  });
});

function uuid(id: string, isStructured: boolean) {
  if (!isStructured) return new UUID().setString(id);
  const hex = id.replaceAll('-', '');
  const half = (text: string) => String(BigInt.asIntN(64, BigInt(`0x${text}`)));
  return new UUID().setStructured(
    new UUID.Structured().setMostSignificantBits(half(hex.slice(0, 16))).setLeastSignificantBits(half(hex.slice(16))),
  );
}
