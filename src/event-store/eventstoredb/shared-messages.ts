import type { ProtobufReader } from './protobuf.js';

/** Parts of messages that many have, as in EventStoreDB's shared.proto. */

/** AllStreamPosition: one number says all where events are written by gRPC only. */
export function readPosition(reader: ProtobufReader, end: number): bigint {
  let commit = 0n;
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 1) commit = reader.bigint();
    else reader.skip();
  return commit;
}

/** A server that has no position says -1, which arrives as a very large one. */
export const validPosition = (position: bigint): bigint | undefined => (position < 2n ** 63n ? position : undefined);

export function readUuid(reader: ProtobufReader, end: number): string {
  let id = '';
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 2) id = reader.text();
    else if (field === 1) id = readHalves(reader, reader.message());
    else reader.skip();
  return id;
}

function readHalves(reader: ProtobufReader, end: number): string {
  let high = 0n;
  let low = 0n;
  for (let field = reader.next(end); field !== 0; field = reader.next(end))
    if (field === 1) high = reader.bigint();
    else if (field === 2) low = reader.bigint();
    else reader.skip();
  const hex = ((high << 64n) | low).toString(16).padStart(32, '0');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}
