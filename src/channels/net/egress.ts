import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns';
import { connect as connectSocket, isIP, type LookupFunction, type Socket } from 'node:net';
import { createSecureContext, rootCertificates, type SecureContext } from 'node:tls';
import ipaddr from 'ipaddr.js';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import { type ProxyServer, type Way, WaysOut } from './ways-out.js';

/**
 * The guard on every connection that a customer's configuration can cause (server-side request forgery, CWE-918).
 *
 * Only public unicast addresses are reached, and the networks an operator has named. The check sits where the
 * connection is made, on the very address that is connected to: a check of the name beforehand is worth nothing, since
 * the name may resolve differently a moment later (DNS rebinding).
 */

export interface EgressOptions {
  /** Networks in CIDR notation that may be reached although they are not public: `10.20.0.0/16`, `::1/128`. */
  readonly allowedNetworks: readonly string[];
  /** PEM certificates of authorities to trust beside the public ones. Default: none. */
  readonly trustedCertificates?: readonly string[];
  /** Default: the operating system's resolver. */
  readonly resolver?: typeof systemLookup;
}

export interface ConnectOptions {
  /** Default: 10,000. */
  readonly timeoutMs?: number;
  /** Destroys the connection, also after it was made. */
  readonly signal?: AbortSignal;
  /** Leads there by CONNECT. Default: none. */
  readonly proxy?: ProxyServer | undefined;
}

export class BlockedAddressError extends Error {
  readonly code = 'BLOCKED_ADDRESS';
  constructor(host: string) {
    super(`${host} is not a public address, and no allowed network contains it`);
  }
}

/** Bound on TCP connect and TLS handshake together. */
const CONNECT_TIMEOUT_MS = 10_000;

/** Enough for 9,600 deliveries/s to one receiver that answers within 13 ms; every idle one is closed after 4 s. */
const CONNECTIONS_PER_ORIGIN = 128;

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** RFC 4291: all IPv6 addresses given out so far. ipaddr.js also calls `::127.0.0.1` and `4000::` unicast. */
const GLOBAL_UNICAST_V6 = ipaddr.IPv6.parseCIDR('2000::/3');
/** RFC 6052: the prefix under which a NAT64 gateway reaches the IPv4 internet. */
const NAT64 = ipaddr.IPv6.parseCIDR('64:ff9b::/96');

export class Egress {
  /** Options for TLS made elsewhere: whom to trust. One context for all, as reading 140 root certificates takes 20 ms. */
  readonly tls: { readonly secureContext?: SecureContext };
  /** PEM certificates of the authorities that are trusted beside the public ones. */
  readonly trusted: readonly string[];
  /** Keep-alive pool for HTTP. Does not follow redirects: each hop would have to be judged, and would carry secrets on. */
  readonly #pool: Agent;
  readonly #ways: WaysOut;
  readonly #allowed: readonly (readonly [Address, number])[];
  readonly #resolver: typeof systemLookup;

  constructor({ allowedNetworks, trustedCertificates, resolver = systemLookup }: EgressOptions) {
    this.#allowed = allowedNetworks.map(parseNetwork);
    this.#resolver = resolver;
    this.trusted = trustedCertificates ?? [];
    this.#ways = new WaysOut(this, CONNECTIONS_PER_ORIGIN);
    this.tls = trustedCertificates?.length
      ? { secureContext: createSecureContext({ ca: [...rootCertificates, ...trustedCertificates] }) }
      : {};
    const connect = buildConnector({
      lookup: this.lookup,
      timeout: CONNECT_TIMEOUT_MS,
      ...this.tls,
    });
    this.#pool = new Agent({
      connections: CONNECTIONS_PER_ORIGIN,
      pipelining: 1,
      connect: (options, callback) => {
        const blocked = this.blocked(options.hostname);
        if (blocked) callback(blocked, null);
        else connect(options, callback);
      },
    });
  }

  /** For `lookup` of undici, net and tls. Node never calls it for a host that is an address already. */
  readonly lookup: LookupFunction = (hostname: string, options: LookupOptions, callback): void => {
    this.#resolver(hostname, { ...options, all: true }, (error, found: LookupAddress[]) => {
      if (error) return callback(error, '', 0);
      const allowed = found.filter(({ address }) => this.#reach(address) !== 'blocked');
      const [first] = allowed;
      if (!first) return callback(new BlockedAddressError(hostname), '', 0);
      if (options.all) return callback(null, allowed);
      callback(null, first.address, first.family);
    });
  };

  /**
   * A TCP connection to a checked address of `host`, for protocols other than HTTP. TLS, where wanted, is negotiated on
   * it under the name. Rejects with BlockedAddressError, or with the error of the resolver or the connection.
   */
  connect(
    host: string,
    port: number,
    { timeoutMs = CONNECT_TIMEOUT_MS, signal, proxy }: ConnectOptions = {},
  ): Promise<Socket> {
    const blocked = this.blocked(host);
    if (blocked) return Promise.reject(blocked);
    if (proxy) return this.#ways.connect(proxy, host, port, { timeoutMs, ...(signal && { signal }) });
    return new Promise((resolve, reject) => {
      const socket = connectSocket({ host, port, lookup: this.lookup, noDelay: true, ...(signal && { signal }) });
      const timer = setTimeout(
        () => socket.destroy(Object.assign(new Error('connect timed out'), { code: 'CONNECT_TIMEOUT' })),
        timeoutMs,
      );
      // The listener stays: an error that nobody listens to would end the process, and a late reject does nothing.
      socket.on('error', reject).once('close', () => clearTimeout(timer));
      socket.once('connect', () => {
        clearTimeout(timer);
        resolve(socket);
      });
    });
  }

  /** True for an address inside a network the operator has named. */
  isInternal(address: string): boolean {
    return this.#reach(address) === 'internal';
  }

  /**
   * What is wrong with a URL to be stored, undefined when nothing is. Names are not resolved here (they may point
   * elsewhere by the time they are used); this only spares people a failure they could have been told of at once.
   */
  problemWithUrl(url: string): string | undefined {
    // Parsing drops line breaks and tabs (WHATWG URL, 4.4): another text would be called than the one that was checked.
    if (/\p{Cc}/u.test(url)) return 'must not contain line breaks, tabs or other control characters';
    if (!URL.canParse(url)) return 'is not a URL';
    const { protocol, username, password, hostname } = new URL(url);
    if (protocol !== 'https:' && protocol !== 'http:') return 'must be an http or https URL';
    if (username !== '' || password !== '') return 'must not contain credentials';
    return this.problemWithHost(hostname);
  }

  /** The same for a host name or address. */
  problemWithHost(host: string): string | undefined {
    const name = host.toLowerCase().replace(/\.$/, '');
    const local = name === 'localhost' || name.endsWith('.localhost');
    const reachable = local ? this.isInternal('127.0.0.1') || this.isInternal('::1') : !this.blocked(name);
    return reachable ? undefined : 'is not a public address, and no allowed network contains it';
  }

  /**
   * The pool for HTTP by which a configuration is served: with its client certificate, through its proxy, and where it has
   * neither, like all others. Asked for each request, as pools of their own are closed when unused.
   */
  dispatcher(way: Way): Dispatcher {
    return way.tls || way.proxy ? this.#ways.get(way) : this.#pool;
  }

  /** Ends idle connections now and busy ones after their response. */
  async close(): Promise<void> {
    await Promise.all([this.#pool.close(), this.#ways.close()]);
  }

  /** Ends all connections now. */
  async destroy(): Promise<void> {
    await Promise.all([this.#pool.destroy(), this.#ways.destroy()]);
  }

  /** The error of a host that is an address which may not be reached. Names are judged by `lookup`. */
  blocked(host: string): BlockedAddressError | undefined {
    const literal = host.replace(/^\[(.*)\]$/, '$1');
    return isIP(literal) !== 0 && this.#reach(literal) === 'blocked' ? new BlockedAddressError(host) : undefined;
  }

  #reach(text: string): 'internal' | 'public' | 'blocked' {
    const address = unwrapped(ipaddr.parse(text));
    if (this.#allowed.some(([network, bits]) => matches(address, network, bits))) return 'internal';
    if (address.range() !== 'unicast') return 'blocked';
    return address instanceof ipaddr.IPv4 || address.match(GLOBAL_UNICAST_V6) ? 'public' : 'blocked';
  }
}

/**
 * The IPv4 address that an IPv6 address stands for: the connection ends there, so that is what is judged. 6to4, Teredo
 * and local NAT64 prefixes are not public in ipaddr.js and need no unwrapping.
 */
function unwrapped(address: Address): Address {
  if (address instanceof ipaddr.IPv4) return address;
  if (address.isIPv4MappedAddress()) return address.toIPv4Address();
  return address.match(NAT64) ? new ipaddr.IPv4(address.toByteArray().slice(12)) : address;
}

function matches(address: Address, network: Address, bits: number): boolean {
  if (address instanceof ipaddr.IPv4) return network instanceof ipaddr.IPv4 && address.match(network, bits);
  return network instanceof ipaddr.IPv6 && address.match(network, bits);
}

function parseNetwork(cidr: string): [Address, number] {
  if (!ipaddr.isValidCIDR(cidr)) {
    throw new Error(`allowedNetworks: "${cidr}" is not a network in CIDR notation, such as 10.0.0.0/8 or fd00::/8`);
  }
  return ipaddr.parseCIDR(cidr);
}
