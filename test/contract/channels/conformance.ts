import { type AddressInfo, createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ChannelAdapter, OutgoingMessage, SendOptions, SendOutcome } from '../../../src/channels/channel.js';
import { fieldsOf } from '../../../src/channels/config-fields.js';
import { Egress } from '../../../src/channels/net/egress.js';
import { CHANNELS, type Content, type ErrorCategory, type JsonObject } from '../../../src/domain/vocabulary.js';
import { collectingGarbage } from '../../support/garbage.js';
import { unusedPort } from '../../support/peers/http-peer.js';
import { startHttpProxy } from '../../support/peers/http-proxy.js';
import { startTcpProxy } from '../../support/tcp-proxy.js';

/**
 * What a provider can do to a message. The peer of each adapter does it in the provider's own way; `drops` closes the
 * connection after the whole request has come and before anything is answered.
 */
export type Behaviour = 'accepts' | 'unavailable' | 'unauthorized' | 'limited' | 'silent' | 'drops';

export interface Peer {
  /** A valid configuration that points to the peer. */
  readonly config: JsonObject;
  /** Where the peer listens on 127.0.0.1. Missing where nothing is connected to, as with a local folder. */
  readonly port?: number;
  behave(behaviour: Behaviour): void;
  /** Requests or sessions begun by now, whatever became of them. */
  seen(): number;
  /** Messages taken by now. */
  accepted(): number;
  close(): Promise<void>;
}

/** One of the provider's documented refusals and what it has to be taken for. */
export interface Refusal<P extends Peer> {
  readonly when: string;
  /** Makes the peer refuse; it quotes all it knows, as providers do. */
  readonly behave?: (peer: P) => void;
  /** Changes of the configuration that provoke it. */
  readonly change?: JsonObject;
  readonly category: ErrorCategory;
  readonly code?: string;
}

export interface Subject<P extends Peer = Peer> {
  readonly name: string;
  create(egress: Egress): ChannelAdapter;
  start(): Promise<P>;
  /** Changes that make a valid configuration bad, each with the path it has to be reported at. */
  readonly bad: readonly { readonly change: JsonObject; readonly path: string }[];
  /** The table of the provider's errors: everything beyond what each `Behaviour` stands for. */
  readonly refusals: readonly Refusal<P>[];
  /** The change that points a configuration to another port of 127.0.0.1; needed where the peer has a port. */
  redirect?(port: number): JsonObject;
  readonly addresses: { readonly good: string; readonly bad: string };
  readonly content: Content;
  /** Larger than the adapter takes, with the change of the configuration that says so. Default: a text beyond `maxBytes`. */
  readonly oversized?: { readonly content: Content; readonly change?: JsonObject };
  /** Values that no outcome may contain: secrets of the configuration, addresses, content. The peer quotes them. */
  readonly confidential: readonly string[];
  /** What the peer asks for when it is `limited`, where the protocol can say so. */
  readonly retryAfterMs?: number;
  /** The category of `limited`, where it is not RATE_LIMIT. */
  readonly limitedCategory?: ErrorCategory;
  /** Lets a peer count what was taken, where that takes a moment. Called after each sending. */
  settle?(peer: P): Promise<void>;
  /** The change with which it is sent through a proxy, beside the proxy. */
  readonly proxied?: JsonObject;
  /** Where the provider has no way to do it. */
  readonly never?: readonly Behaviour[];
}

/** Messages sent at once: more than any adapter keeps connections. */
const AT_ONCE = 20;

export function options(signal = new AbortController().signal): SendOptions {
  return { signal, attemptKey: 'attempt-0001', now: new Date() };
}

export function messageOf(config: JsonObject, content: Content, more: Partial<OutgoingMessage> = {}): OutgoingMessage {
  const requestedAt = '2026-03-04T05:06:07.000Z';
  return { deliveryId: 'delivery-1', organizationId: 'organization-1', config, content, requestedAt, ...more };
}

export const LOOPBACK = ['127.0.0.0/8'];

/** What every adapter owes its port, whatever is at the other end. */
export function conforms<P extends Peer>(subject: Subject<P>): void {
  describe(`${subject.name} keeps the contract of channels`, () => {
    let egress: Egress;
    let adapter: ReturnType<Subject['create']>;
    let peer: P;
    const printed: string[] = [];

    beforeEach(async () => {
      printed.length = 0;
      for (const level of ['log', 'info', 'warn', 'error', 'debug'] as const) {
        vi.spyOn(console, level).mockImplementation((...words) => void printed.push(words.join(' ')));
      }
      egress = new Egress({ allowedNetworks: LOOPBACK });
      adapter = subject.create(egress);
      peer = await subject.start();
    });
    afterEach(async () => {
      await peer.close();
      await adapter.close?.();
      await egress.destroy();
      vi.restoreAllMocks();
      expectClean(printed);
    });

    const expectClean = (shown: unknown) => {
      const text = JSON.stringify(shown);
      for (const value of subject.confidential) expect(text).not.toContain(value);
    };
    const sendAs = async (more: Partial<OutgoingMessage>, content: Content, sendOptions: SendOptions) => {
      const outcome = await adapter.send(messageOf(peer.config, content, more), sendOptions);
      await subject.settle?.(peer);
      expectClean(outcome);
      if (outcome.kind === 'rejected') {
        expect(outcome.code).toMatch(/^[A-Z][A-Z0-9_]*$/);
        expect(outcome.detail.length).toBeGreaterThan(0);
        expect(outcome.detail.length).toBeLessThanOrEqual(500);
      }
      return outcome;
    };
    const send = (change: JsonObject = {}, signal?: AbortSignal): Promise<SendOutcome> =>
      sendAs({ config: { ...peer.config, ...change } }, subject.content, options(signal));
    const can = (behaviour: Behaviour) => !subject.never?.includes(behaviour);

    it('describes itself', () => {
      const { channel, provider, configKey, limits, tested } = adapter.describe();
      expect(CHANNELS).toContain(channel);
      expect(provider).toMatch(/^[a-z][a-z0-9]*$/);
      expect(configKey).toMatch(/^[a-z][A-Za-z]*$/);
      expect(limits.maxBytes).toBeGreaterThan(0);
      expect(limits.timeoutMs).toBeGreaterThan(0);
      expect(tested, 'what its test does').toMatch(/^[`A-Z].*\.$/);
      if (adapter.errors) expect(adapter.errors.source).toMatch(/^https:/);
    });

    it('documents every field of its configuration, its secrets as such', () => {
      const fields = fieldsOf(adapter.schema);
      for (const { path, description } of fields) expect(description, path).not.toBe('');
      const secrets = fields.filter(({ isSecret }) => isSecret).map(({ path }) => path);
      expect([...adapter.describe().secretFields].sort()).toEqual(secrets.sort());
      const bound = fields.find(({ path }) => path === 'timeout');
      if (subject.redirect) expect(bound?.default).toBe(adapter.describe().limits.timeoutMs);
    });

    it('finds nothing wrong with a good configuration', () => {
      expect(adapter.validate(peer.config)).toEqual([]);
    });

    it.each(subject.bad)('reports $path of $change', ({ change, path }) => {
      const problems = adapter.validate({ ...peer.config, ...change });
      expect(problems.map((problem) => problem.path)).toContain(path);
      expect(problems.every(({ problem }) => problem.length > 0)).toBe(true);
      expectClean(problems);
    });

    it('takes an unknown field for a problem', () => {
      const problems = adapter.validate({ ...peer.config, colour: 'green' });
      expect(problems).toEqual([{ path: 'colour', problem: 'is not a known field' }]);
    });

    it('judges bare addresses and puts them into a configuration', () => {
      expect(adapter.validateAddress(subject.addresses.good)).toBeUndefined();
      expect(adapter.validateAddress(subject.addresses.bad)).toEqual(expect.any(String));
      const changed = adapter.withAddress(peer.config, subject.addresses.good);
      expect(adapter.validate(changed)).toEqual([]);
      expect(JSON.stringify(changed)).toContain(subject.addresses.good);
    });

    it('delivers', async () => {
      expect(await send()).toMatchObject({ kind: 'accepted', delivered: adapter.describe().acceptanceIsDelivery });
      expect(peer.accepted()).toBe(1);
    });

    it('delivers many at once, each of them once', async () => {
      const outcomes = await Promise.all(
        Array.from({ length: AT_ONCE }, (_, number) =>
          sendAs({ deliveryId: `delivery-${number}` }, subject.content, {
            ...options(),
            attemptKey: `attempt-${number}`,
          }),
        ),
      );
      expect(outcomes.filter(({ kind }) => kind !== 'accepted')).toEqual([]);
      expect(peer.accepted()).toBe(AT_ONCE);
    }, 120_000);

    it('refuses a message larger than it can send', async () => {
      const { maxBytes } = adapter.describe().limits;
      const { content, change = {} } = subject.oversized ?? { content: { text: 'x'.repeat(maxBytes + 1) } };
      const outcome = await sendAs({ config: { ...peer.config, ...change } }, content, options());
      expect(outcome).toMatchObject({ kind: 'rejected', category: 'VALIDATION', code: 'TOO_LARGE' });
      expect(peer.accepted()).toBe(0);
    });

    if (can('unavailable')) {
      it('calls a failing provider temporary', async () => {
        peer.behave('unavailable');
        expect(await send()).toMatchObject({ kind: 'rejected', category: 'TEMPORARY' });
        expect(peer.accepted()).toBe(0);
      });
    }

    if (can('unauthorized')) {
      it('tells a refused login apart', async () => {
        peer.behave('unauthorized');
        expect(await send()).toMatchObject({ kind: 'rejected', category: 'AUTHENTICATION' });
        expect(peer.accepted()).toBe(0);
      });
    }

    if (can('limited')) {
      it('honours the wish to be left alone for a while', async () => {
        peer.behave('limited');
        const outcome = await send();
        expect(outcome).toMatchObject({ kind: 'rejected', category: subject.limitedCategory ?? 'RATE_LIMIT' });
        const wait = 'retryAfterMs' in outcome ? outcome.retryAfterMs : undefined;
        if (subject.retryAfterMs === undefined) expect(wait).toBeUndefined();
        // A wish given as a point in time has passed by a little when it is read.
        else expect(Math.abs((wait ?? 0) - subject.retryAfterMs)).toBeLessThan(2_000);
      });
    }

    it.each(subject.refusals)('takes $when for $category', async ({ behave, change, category, code }) => {
      behave?.(peer);
      const outcome = await send(change);
      expect(outcome).toMatchObject({ kind: 'rejected', category, ...(code !== undefined && { code }) });
      expect(outcome).not.toHaveProperty('inDoubt');
      expect(peer.accepted()).toBe(0);
    });

    it('does not begin when its signal is already aborted', async () => {
      expect(await send({}, AbortSignal.abort())).toMatchObject({ kind: 'rejected', code: 'ABORTED' });
      expect(peer.accepted()).toBe(0);
    });

    it('tests a connection without delivering anything', async () => {
      const { signal } = new AbortController();
      const tested = await adapter.test(peer.config, { signal });
      expect(tested).toMatchObject({ ok: true, problems: [] });
      expect(tested.latencyMs).toBeGreaterThanOrEqual(0);
      expect(peer.accepted()).toBe(0);
    });

    const { redirect } = subject;
    if (redirect) describe('over a network', () => overNetwork(redirect));

    function overNetwork(redirected: NonNullable<Subject['redirect']>) {
      it('is stopped by its signal while the provider is silent', async () => {
        peer.behave('silent');
        const controller = new AbortController();
        const outcome = send({}, controller.signal);
        await vi.waitFor(() => expect(peer.seen()).toBe(1), { timeout: 10_000 });
        controller.abort();
        expect(await outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'ABORTED' });
      });

      it('gives up after its own timeout', async () => {
        peer.behave('silent');
        const outcome = await collectingGarbage(() => send({ timeout: 400 }));
        expect(outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'TIMEOUT' });
        expect(peer.accepted()).toBe(0);
      });

      it('is in doubt when the connection breaks after the request, and works again afterwards', async () => {
        peer.behave('drops');
        expect(await send()).toMatchObject({ kind: 'rejected', category: 'NETWORK', inDoubt: true });
        peer.behave('accepts');
        expect(await send()).toMatchObject({ kind: 'accepted' });
      });

      it('calls a connection that breaks before the request a matter of the network', async () => {
        const server = createServer((socket) => socket.destroy());
        await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
        const outcome = await send(redirected((server.address() as AddressInfo).port));
        server.close();
        expect(outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK' });
        expect(await send()).toMatchObject({ kind: 'accepted' });
      });

      it('calls a refused connection a matter of the network', async () => {
        const outcome = await send(redirected(await unusedPort()));
        expect(outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'ECONNREFUSED' });
        expect(outcome).not.toHaveProperty('inDoubt');
      });

      it('says truly what became of a message that is being sent when it is closed', async () => {
        const proxy = await startTcpProxy(peer.port as number);
        proxy.stall();
        const sending = send(redirected(proxy.port));
        await vi.waitFor(() => expect(proxy.accepted).toBeGreaterThan(0), { timeout: 10_000 });
        const closed = Promise.all([adapter.close?.(), egress.close()]);
        proxy.heal();
        const outcome = await sending;
        await closed;
        await proxy.close();
        if (outcome.kind === 'accepted') expect(peer.accepted()).toBe(1);
        else expect(outcome.category).toBe('NETWORK');
        if (peer.accepted() === 1 && outcome.kind === 'rejected') expect(outcome.inDoubt).toBe(true);
      });

      it('does not connect to an address outside the allowed networks', async () => {
        const strict = new Egress({ allowedNetworks: ['10.0.0.0/8'] });
        const guarded = subject.create(strict);
        const outcome = await guarded.send(messageOf(peer.config, subject.content), options());
        await guarded.close?.();
        await strict.close();
        expect(outcome).toMatchObject({ kind: 'rejected', category: 'CONFIGURATION', code: 'BLOCKED_ADDRESS' });
        expect(guarded.validate(peer.config)).not.toEqual([]);
        expect(peer.seen()).toBe(0);
      });

      it('goes through its proxy, and by no other way', async () => {
        const proxy = await startHttpProxy({ login: 'porter:b1ll-of-lading' });
        const by = (password: string) => ({
          ...subject.proxied,
          proxy: { url: proxy.url, username: 'porter', password },
        });
        const good = by('b1ll-of-lading');
        expect(adapter.validate({ ...peer.config, ...good })).toEqual([]);
        const { signal } = new AbortController();
        expect(await adapter.test({ ...peer.config, ...good }, { signal })).toMatchObject({ ok: true });
        const asked = proxy.asked.length;
        expect(asked).toBeGreaterThan(0);
        const wrong = await send(by('wr0ng-password'));
        expect(wrong).toMatchObject({ kind: 'rejected', category: 'AUTHENTICATION', code: 'PROXY_407' });
        expect(wrong).not.toHaveProperty('inDoubt');
        expect(JSON.stringify(wrong)).not.toContain('wr0ng');
        expect(peer.accepted()).toBe(0);
        expect(await send(good)).toMatchObject({ kind: 'accepted' });
        expect(peer.accepted()).toBe(1);
        await proxy.close();
        expect(await send(good)).toMatchObject({ kind: 'rejected', category: 'NETWORK' });
        expect(peer.accepted()).toBe(1);
      });

      it('says that a test found nobody, or a refused login', async () => {
        const { signal } = new AbortController();
        const dead = await adapter.test({ ...peer.config, ...redirected(await unusedPort()) }, { signal });
        expect(dead).toMatchObject({ ok: false, problems: [{ problem: expect.any(String) }] });
        expectClean(dead);
        peer.behave('silent');
        const silent = await adapter.test({ ...peer.config, timeout: 400 }, { signal });
        expectClean(silent);
      });
    }
  });
}
