import type { ServerWritableStream } from '@grpc/grpc-js';
import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import { fail, send, signalOf } from './calls.js';
import { invalidArgument, streamDeleted, unavailable } from './errors.js';
import { filterOf } from './filters.js';
import { allPages, streamPages } from './reads.js';
import { fromLog } from './records.js';
import { type From, type ReadRequest } from './requests.js';
import {
  encodeFirstStreamPosition,
  encodeLastAllStreamPosition,
  encodeLastStreamPosition,
  encodeReadEvent,
  encodeStreamNotFound,
  type ResolvedEvent,
} from './responses.js';
import type { Service } from './service.js';
import type { Store } from './store.js';
import { subscribeToAll, subscribeToStream } from './subscribe.js';
import { ALL_STREAM } from './users.js';

/** Where what is read goes to. */
export interface Out {
  readonly signal: AbortSignal;
  /** Waits, when it does, for a caller that is slow. */
  send(message: Buffer): Promise<void> | undefined;
  sendEvents(events: readonly RecordedEvent[]): Promise<void>;
}

/** Streams.Read: a stream or all of them, once or as a subscription. */
export async function read(service: Service, call: ServerWritableStream<ReadRequest, Buffer>): Promise<void> {
  const { store, users, stopping } = service;
  const { source, count, structuredIds, hasFilterOption } = call.request;
  const signal = signalOf(call, stopping);
  try {
    if (!source || count === undefined || structuredIds === undefined || !hasFilterOption)
      throw invalidArgument('a read needs a stream option, a count option, a filter option and a UUID option');
    await users.check(users.authenticated(call.metadata), source.stream ?? ALL_STREAM, 'read');
    const { stream, from } = source;
    const out = outOf(store, call, signal);
    if (stream !== undefined && call.request.filter) throw invalidArgument('only $all can be read with a filter');
    if (count !== 'subscription')
      await (stream === undefined
        ? readAll(store, from, Number(count), call.request, out)
        : readStream(store, stream, from, Number(count), call.request, out));
    else if (call.request.backwards) throw invalidArgument('a subscription goes forwards');
    else if (stream === undefined) await subscribeToAll(store, from, call.request.filter, out);
    else await subscribeToStream(store, stream, from, out);
    if (stopping.aborted) throw unavailable();
    call.end();
  } catch (error) {
    if (!call.cancelled) fail(call, error);
  }
}

async function readStream(
  store: Store,
  stream: string,
  from: From,
  count: number,
  { backwards, compatibility }: ReadRequest,
  out: Out,
): Promise<void> {
  const view = await store.view(stream);
  if (view.kind === 'stream-deleted') throw streamDeleted(stream);
  if (view.kind === 'stream-not-found') return void (await out.send(encodeStreamNotFound(stream)));
  if (compatibility > 0 && !backwards && from !== 'end' && Number(from === 'start' ? 0 : from) < view.first)
    await out.send(encodeFirstStreamPosition(BigInt(view.first)));
  for await (const events of streamPages(store, stream, view, { from, backwards, count })) {
    await out.sendEvents(events);
    if (out.signal.aborted) return;
  }
  if (compatibility > 0) await out.send(encodeLastStreamPosition(BigInt(view.last)));
}

async function readAll(
  store: Store,
  from: From,
  count: number,
  { backwards, compatibility, ...request }: ReadRequest,
  out: Out,
): Promise<void> {
  const filter = request.filter && filterOf(request.filter);
  for await (const events of allPages(store, { from, backwards, count, filter })) {
    await out.sendEvents(events);
    if (out.signal.aborted) return;
  }
  if (compatibility > 0) await out.send(encodeLastAllStreamPosition(store.head));
}

function outOf(store: Store, call: ServerWritableStream<ReadRequest, Buffer>, signal: AbortSignal): Out {
  const { resolveLinks, structuredIds = false } = call.request;
  return {
    signal,
    send: (message) => send(call, message, signal),
    async sendEvents(events) {
      for (const event of events) {
        if (signal.aborted) return;
        const resolved =
          resolveLinks && event.type === LINK ? await follow(store, event) : { event: fromLog(event), link: undefined };
        const sent = send(call, encodeReadEvent(resolved, structuredIds), signal);
        if (sent) await sent;
      }
    },
  };
}

/** An event whose data names another, as `revision@stream`. */
const LINK = '$>';

async function follow(store: Store, event: RecordedEvent): Promise<ResolvedEvent> {
  const link = fromLog(event);
  const [, revision, stream] = /^(\d+)@(.+)$/s.exec(link.data.toString('utf8')) ?? [];
  if (stream === undefined) return { event: link, link: undefined };
  const view = await store.view(stream);
  if (view.kind !== 'events' || Number(revision) < view.first) return { event: undefined, link };
  const [linked] = await store.log.readStream(stream, { from: Number(revision), limit: 1 });
  return { event: linked?.revision === Number(revision) ? fromLog(linked) : undefined, link };
}
