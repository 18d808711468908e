import { Reader } from './wire.js';

/** What the server is asked, as in the protocol's files streams.proto and shared.proto. */

export type Expected = bigint | 'any' | 'no-stream' | 'stream-exists';

export interface Proposed {
  readonly id: string;
  readonly type: string;
  readonly contentType: string;
  readonly data: Buffer;
  readonly customMetadata: Buffer;
}

export interface StreamTarget {
  readonly stream: string;
  readonly expected: Expected;
}

export type AppendRequest = { readonly options: StreamTarget } | { readonly proposed: Proposed };

export interface BatchAppendRequest {
  readonly correlationId: string;
  readonly options: (StreamTarget & { readonly deadlineMs: number | undefined }) | undefined;
  readonly proposed: readonly Proposed[];
  readonly isFinal: boolean;
}

/** A stream's revision, or a position in $all. */
export type From = bigint | 'start' | 'end';

export interface ReadRequest {
  /** Without a stream it is $all. */
  readonly source: { readonly stream: string | undefined; readonly from: From } | undefined;
  readonly backwards: boolean;
  readonly resolveLinks: boolean;
  readonly count: bigint | 'subscription' | undefined;
  readonly filter: FilterOptions | undefined;
  readonly hasFilterOption: boolean;
  readonly structuredIds: boolean | undefined;
  readonly compatibility: number;
}

export interface FilterOptions {
  readonly on: 'stream-name' | 'event-type' | undefined;
  readonly regex: string;
  readonly prefixes: readonly string[];
  /** Most events to look at in one go; undefined leaves it to the server. */
  readonly window: number | undefined;
  readonly checkpointIntervalMultiplier: number;
}

/** Empty: to grpc-js a request that is undefined did not come. */
export const decodeEmpty = (): object => ({});

export function decodeAppend(bytes: Buffer): AppendRequest {
  const reader = new Reader(bytes);
  let request: AppendRequest | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) request = { options: target(reader.message()) };
    else if (field === 2) request = { proposed: proposed(reader.message()) };
    else reader.skip();
  return request ?? { options: { stream: '', expected: 'any' } };
}

export function decodeBatchAppend(bytes: Buffer): BatchAppendRequest {
  const reader = new Reader(bytes);
  const events: Proposed[] = [];
  let correlationId = '';
  let options: BatchAppendRequest['options'];
  let isFinal = false;
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) correlationId = uuid(reader.message());
    else if (field === 2) options = target(reader.message());
    else if (field === 3) events.push(proposed(reader.message()));
    else if (field === 4) isFinal = reader.bool();
    else reader.skip();
  return { correlationId, options, proposed: events, isFinal };
}

/** DeleteReq and TombstoneReq. */
export function decodeDelete(bytes: Buffer): StreamTarget {
  const reader = new Reader(bytes);
  let options: StreamTarget = { stream: '', expected: 'any' };
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) options = target(reader.message());
    else reader.skip();
  return options;
}

export function decodeRead(bytes: Buffer): ReadRequest {
  const outer = new Reader(bytes);
  const request: { -readonly [Key in keyof ReadRequest]: ReadRequest[Key] } = {
    ...{ source: undefined, backwards: false, resolveLinks: false, count: undefined, filter: undefined },
    ...{ hasFilterOption: false, structuredIds: undefined, compatibility: 0 },
  };
  for (let outerField = outer.next(); outerField !== 0; outerField = outer.next()) {
    if (outerField !== 1) {
      outer.skip();
      continue;
    }
    const reader = outer.message();
    for (let field = reader.next(); field !== 0; field = reader.next())
      if (field === 1) request.source = streamOptions(reader.message());
      else if (field === 2) request.source = { stream: undefined, from: allOptions(reader.message()) };
      else if (field === 3) request.backwards = reader.uint32() === 1;
      else if (field === 4) request.resolveLinks = reader.bool();
      else if (field === 5) request.count = reader.uint64();
      else if (field === 6) {
        reader.skip();
        request.count = 'subscription';
      } else if (field === 7) {
        request.filter = filterOptions(reader.message());
        request.hasFilterOption = true;
      } else if (field === 8) {
        reader.skip();
        request.filter = undefined;
        request.hasFilterOption = true;
      } else if (field === 9) request.structuredIds = reader.message().next() === 1;
      else if (field === 10) request.compatibility = controlOption(reader.message());
      else reader.skip();
  }
  return request;
}

function streamOptions(reader: Reader): { stream: string; from: From } {
  let stream = '';
  let from: From = 'start';
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) stream = streamName(reader.message());
    else if (field === 2) from = placeAt(reader.uint64());
    else {
      reader.skip();
      if (field === 3) from = 'start';
      if (field === 4) from = 'end';
    }
  return { stream, from };
}

function allOptions(reader: Reader): From {
  let from: From = 'start';
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) from = placeAt(commitPosition(reader.message()));
    else {
      reader.skip();
      if (field === 2) from = 'start';
      if (field === 3) from = 'end';
    }
  return from;
}

/** The real server has 63 bits, and means the end by what is more. */
const placeAt = (value: bigint): From => (value < 2n ** 63n ? value : 'end');

function commitPosition(reader: Reader): bigint {
  let commit = 0n;
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) commit = reader.uint64();
    else reader.skip();
  return commit;
}

function filterOptions(reader: Reader): FilterOptions {
  const options: { -readonly [Key in keyof FilterOptions]: FilterOptions[Key] } = {
    ...{ on: undefined, regex: '', prefixes: [], window: undefined, checkpointIntervalMultiplier: 0 },
  };
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1 || field === 2) {
      Object.assign(options, expression(reader.message()));
      options.on = field === 1 ? 'stream-name' : 'event-type';
    } else if (field === 3) options.window = reader.uint32();
    else if (field === 5) options.checkpointIntervalMultiplier = reader.uint32();
    else reader.skip();
  return options;
}

function expression(reader: Reader): { regex: string; prefixes: string[] } {
  let regex = '';
  const prefixes: string[] = [];
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) regex = reader.string();
    else if (field === 2) prefixes.push(reader.string());
    else reader.skip();
  return { regex, prefixes };
}

function controlOption(reader: Reader): number {
  let compatibility = 0;
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) compatibility = reader.uint32();
    else reader.skip();
  return compatibility;
}

function target(reader: Reader): StreamTarget & { deadlineMs: number | undefined } {
  let stream = '';
  let expected: Expected = 'any';
  let deadlineMs: number | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) stream = streamName(reader.message());
    else if (field === 2) expected = reader.uint64();
    else if (field === 6) deadlineMs = timestampMs(reader.message());
    else {
      reader.skip();
      if (field === 3) expected = 'no-stream';
      if (field === 4) expected = 'any';
      if (field === 5) expected = 'stream-exists';
    }
  return { stream, expected, deadlineMs };
}

function timestampMs(reader: Reader): number {
  let ms = 0;
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) ms += Number(reader.int64()) * 1_000;
    else if (field === 2) ms += reader.uint32() / 1_000_000;
    else reader.skip();
  return ms;
}

function proposed(reader: Reader): Proposed {
  const event: { -readonly [Key in keyof Proposed]: Proposed[Key] } = {
    ...{ id: '', type: '', contentType: '', data: NOTHING, customMetadata: NOTHING },
  };
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) event.id = uuid(reader.message());
    else if (field === 2) {
      const [key, value] = entry(reader.message());
      if (key === 'type') event.type = value;
      else if (key === 'content-type') event.contentType = value;
    } else if (field === 3) event.customMetadata = reader.bytes();
    else if (field === 4) event.data = reader.bytes();
    else reader.skip();
  return event;
}

function entry(reader: Reader): [key: string, value: string] {
  const pair: [string, string] = ['', ''];
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1 || field === 2) pair[field - 1] = reader.string();
    else reader.skip();
  return pair;
}

function streamName(reader: Reader): string {
  let name = '';
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 3) name = reader.string();
    else reader.skip();
  return name;
}

function uuid(reader: Reader): string {
  let text = '';
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1) text = structuredUuid(reader.message());
    else if (field === 2) text = reader.string().toLowerCase();
    else reader.skip();
  return text;
}

function structuredUuid(reader: Reader): string {
  const halves = [0n, 0n];
  for (let field = reader.next(); field !== 0; field = reader.next())
    if (field === 1 || field === 2) halves[field - 1] = reader.uint64();
    else reader.skip();
  const hex = halves.map((half) => half.toString(16).padStart(16, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const NOTHING = Buffer.alloc(0);
