import streams from '@eventstore/db-client/generated/streams_pb.js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeAppend, decodeRead } from '../../support/eventstoredb/requests.js';
import { encodeReadEvent } from '../../support/eventstoredb/responses.js';
import { Reader, WireError, Writer } from '../../support/eventstoredb/wire.js';
import { UUID } from './raw.js';

/** The codec against the client's generated one. */

const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));
const text = fc.string({ unit: 'binary', maxLength: 200 });

const recorded = fc.record({
  ...{ id: fc.uuid(), type: text, contentType: text, stream: text, data: bytes, customMetadata: bytes },
  ...{ revision: uint64, position: uint64, createdMs: fc.nat() },
});

describe('the codec', () => {
  it('writes events as the client reads them', () => {
    fc.assert(
      fc.property(recorded, fc.option(recorded, { nil: undefined }), fc.boolean(), (event, link, structured) => {
        const read = streams.ReadResp.deserializeBinary(encodeReadEvent({ event, link }, structured)).getEvent();
        expect(read?.getCommitPosition()).toBe(String((link ?? event).position));
        for (const [given, got] of [
          [event, read?.getEvent()],
          [link, read?.getLink()],
        ] as const) {
          if (!given) {
            expect(got).toBeUndefined();
            continue;
          }
          expect(Buffer.from(got?.getData_asU8() ?? [])).toEqual(given.data);
          expect(Buffer.from(got?.getCustomMetadata_asU8() ?? [])).toEqual(given.customMetadata);
          expect(got?.getStreamRevision()).toBe(String(given.revision));
          expect(got?.getPreparePosition()).toBe(String(given.position));
          expect(Buffer.from(got?.getStreamIdentifier()?.getStreamName_asU8() ?? []).toString()).toBe(given.stream);
          expect(got?.getMetadataMap().get('type')).toBe(given.type);
          expect(got?.getMetadataMap().get('content-type')).toBe(given.contentType);
          expect(got?.getMetadataMap().get('created')).toBe(String(BigInt(given.createdMs) * 10_000n));
          if (!structured) expect(got?.getId()?.getString()).toBe(given.id);
        }
      }),
    );
  });

  it('reads proposed events as the client writes them', () => {
    fc.assert(
      fc.property(recorded, ({ id, type, contentType, data, customMetadata }) => {
        const message = new streams.AppendReq.ProposedMessage().setId(new UUID().setString(id));
        message.getMetadataMap().set('type', type).set('content-type', contentType).set('other', 'x');
        message.setData(data.toString('base64')).setCustomMetadata(customMetadata.toString('base64'));
        const sent = new streams.AppendReq().setProposedMessage(message).serializeBinary();
        const request = decodeAppend(Buffer.from(sent));
        expect(request).toEqual({ proposed: { id, type, contentType, data, customMetadata } });
      }),
    );
  });

  it('keeps numbers of all 64 bits, and lengths of all sizes', () => {
    const writer = new Writer();
    fc.assert(
      fc.property(uint64, fc.nat(20_000), fc.nat(20_000), (value, length, guess) => {
        const content = Buffer.alloc(length, 7);
        writer.uint(1, value);
        writer.message(2, () => writer.bytes(3, content), guess);
        writer.int64(4, BigInt.asIntN(64, value));
        const reader = new Reader(writer.finish());
        expect([reader.next(), reader.uint64(), reader.next()]).toEqual([1, value, 2]);
        const inner = reader.message();
        expect(inner.next()).toBe(3);
        expect(inner.bytes().equals(content)).toBe(true);
        expect([reader.next(), reader.int64(), reader.next()]).toEqual([4, BigInt.asIntN(64, value), 0]);
      }),
    );
  });

  it('takes any bytes for a message or for none, never for more than they are', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (array) => {
        for (const decode of [decodeRead, decodeAppend])
          try {
            decode(Buffer.from(array));
          } catch (error) {
            expect(error).toBeInstanceOf(WireError);
          }
      }),
    );
  });
});
