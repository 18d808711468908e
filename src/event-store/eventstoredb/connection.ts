import { discoverEndpoint } from '@eventstore/db-client/dist/Client/discovery.js';
import { StreamsClient, StreamsService } from '@eventstore/db-client/generated/streams_grpc_pb.js';
import { type ChannelCredentials, type ClientOptions, credentials, Metadata } from '@grpc/grpc-js';
import { LogUnavailable } from '../event-store.js';
import { type CorrelatedAnswer, decodeAppendAnswer } from './append-messages.js';
import type { ConnectionSettings } from './connection-string.js';
import { type Endpoint, isTransient, leaderIn, NoAnswer } from './errors.js';
import { decodeReadMessage, type ReadMessage } from './read-messages.js';
import { pause, within } from './waiting.js';

/** A call under way, with what is used of it. */
interface Call<Message> {
  on(event: 'data', heard: (message: Message) => void): unknown;
  on(event: 'error', heard: (error: Error) => void): unknown;
  on(event: 'end', heard: () => void): unknown;
  cancel(): void;
}

export interface AppendCall extends Call<CorrelatedAnswer> {
  write(request: Buffer): boolean;
  end(): unknown;
}

export interface ReadCall extends Call<ReadMessage> {
  pause(): unknown;
  resume(): unknown;
  isPaused(): boolean;
}

/** The node of the cluster that calls go to. */
export type Node = StreamsClient;

/** The largest event that is taken, 32 MiB, and what is around it: what was written must also be read. */
const MAX_MESSAGE_BYTES = 33 * 1024 * 1024;
/** How much a server may send ahead of what was read, for each call. */
const FLOW_CONTROL_WINDOW_BYTES = 1024 * 1024;

/**
 * Where calls to the event store go: one node, chosen by the client's own discovery, until it fails; then the next one.
 *
 * The client's parser, discovery and gRPC stubs are used, but not its `Client`, for what 6.2.1 does with a BatchAppend: the
 * appends of all clients are in one map, which the failure of any client's call empties; an answer that then comes for
 * one of them is an uncaught error; and a wrong revision is answered with revision 1, whatever it is. It also takes five
 * times as long for each (200 µs instead of 37 µs, 500-byte events, measured here).
 */
export class Connection {
  readonly #settings: ConnectionSettings;
  readonly #answerWithinMs: number;
  readonly #onTrouble: (error: Error) => void;
  readonly #credentials: ChannelCredentials;
  readonly #headers: { readonly anywhere: Metadata; readonly leader: Metadata };
  readonly #calls = new Set<{ cancel(): void }>();
  #node: Node | undefined;
  #endpoint: Endpoint | undefined;
  #failed: Endpoint | undefined;
  #leader: Endpoint | undefined;
  #finding: Promise<Node> | undefined;
  /** Nodes that have failed since one has answered. */
  #failures = 0;
  readonly #closing = new AbortController();

  constructor(settings: ConnectionSettings, answerWithinMs: number, onTrouble: (error: Error) => void) {
    const { tls = true, rootCertificate, userKey, userCertificate } = settings;
    this.#settings = settings;
    this.#answerWithinMs = answerWithinMs;
    this.#onTrouble = onTrouble;
    this.#credentials = tls
      ? credentials.createSsl(rootCertificate, userKey, userCertificate)
      : credentials.createInsecure();
    this.#headers = { anywhere: headersOf(settings, false), leader: headersOf(settings, true) };
  }

  /** The node in use; undefined while there is none. */
  get node(): Node | undefined {
    return this.#node;
  }

  /** The node in use, or one that is looked for now. Whether it can be reached only a call shows. @throws NoAnswer */
  async find(): Promise<Node> {
    if (this.#node) return this.#node;
    this.#finding ??= this.#choose().finally(() => {
      this.#finding = undefined;
    });
    return await within(this.#answerWithinMs, this.#finding, 'no node of the event store was found in time');
  }

  batchAppend(node: Node): AppendCall {
    const { path } = StreamsService.batchAppend;
    const call = node.makeBidiStreamRequest(path, asIs, decodeAppendAnswer, this.#headers.leader.clone());
    return this.#watched(call);
  }

  /** @param fromLeader nothing older than what was acknowledged; the leader of a cluster alone can tell */
  read(node: Node, request: Buffer, fromLeader: boolean): ReadCall {
    const { path } = StreamsService.read;
    const headers = fromLeader ? this.#headers.leader : this.#headers.anywhere;
    return this.#watched(node.makeServerStreamRequest(path, asIs, decodeReadMessage, request, headers.clone()));
  }

  /** A call has failed. Where a new connection or another node may help, the next call gets that. */
  failed(node: Node, error: unknown): void {
    if (node !== this.#node || !isTransient(error)) return;
    this.#onTrouble(error as Error);
    this.#failures++;
    this.#node = undefined;
    this.#failed = this.#endpoint;
    this.#leader = leaderIn(error);
    node.close();
  }

  /** Ends all calls. */
  close(): void {
    this.#closing.abort();
    for (const call of this.#calls) call.cancel();
    this.#node?.close();
    this.#node = undefined;
  }

  async #choose(): Promise<Node> {
    // Many may wait for it; they wait together.
    if (this.#failures > 0) await pause(this.#failures - 1, this.#closing.signal);
    const endpoint = this.#leader ?? (await this.#discover());
    this.#leader = undefined;
    if (this.#closing.signal.aborted) throw new LogUnavailable('the event store is closed');
    const { keepAliveInterval = 10_000, keepAliveTimeout = 10_000 } = this.#settings;
    const options: ClientOptions = {
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc-node.flow_control_window': FLOW_CONTROL_WINDOW_BYTES,
      // -1 means never, as the client has it.
      'grpc.keepalive_time_ms': keepAliveInterval < 0 ? Number.MAX_VALUE : keepAliveInterval,
      'grpc.keepalive_timeout_ms': keepAliveTimeout < 0 ? Number.MAX_VALUE : keepAliveTimeout,
      // After a connection was given up, the next one must be another one.
      'grpc.use_local_subchannel_pool': 1,
      // Who calls decides what may be repeated.
      'grpc.enable_retries': 0,
      'grpc.service_config_disable_resolution': 1,
    };
    this.#endpoint = endpoint;
    this.#node = new StreamsClient(`${endpoint.address}:${endpoint.port}`, this.#credentials, options);
    return this.#node;
  }

  async #discover(): Promise<Endpoint> {
    const { hosts, dnsDiscover, ...settings } = this.#settings;
    const [first] = hosts;
    if (!first) throw new LogUnavailable('EVENTSTORE_URL names no host');
    if (!dnsDiscover && hosts.length === 1) return first;
    const seeds = dnsDiscover ? { discover: first } : { endpoints: hosts };
    // One round; who calls tries again while there is time.
    const options = { maxDiscoverAttempts: 1, ...settings, ...seeds };
    return await discoverEndpoint(options, this.#credentials, this.#failed).catch((error: Error) => {
      throw new NoAnswer(`no node of the event store was found: ${error.message}`, { cause: error });
    });
  }

  #watched<T extends { cancel(): void; once(event: string, listener: () => void): unknown }>(call: T): T {
    this.#calls.add(call);
    call.once('metadata', () => {
      this.#failures = 0;
    });
    call.once('status', () => this.#calls.delete(call));
    return call;
  }
}

function headersOf({ user, tls = true, connectionName = 'waybill' }: ConnectionSettings, leader: boolean): Metadata {
  const headers = new Metadata();
  headers.set('connection-name', connectionName);
  if (leader) headers.set('requires-leader', 'true');
  // Never in clear text: a server without TLS knows no users.
  if (user && tls) {
    const token = Buffer.from(`${user.name}:${user.password}`).toString('base64');
    headers.set('authorization', `Basic ${token}`);
  }
  return headers;
}

const asIs = (request: Buffer): Buffer => request;
