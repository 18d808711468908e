import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ChannelAdapter, OutgoingMessage, SendOptions } from '../../../src/channels/channel.js';
import { Egress } from '../../../src/channels/egress.js';
import { CHANNELS, type Content, type JsonObject } from '../../../src/domain/vocabulary.js';

/** What a provider can do to a message. The peer of each adapter does it in the provider's own way. */
export type Behaviour = 'accepts' | 'unavailable' | 'unauthorized' | 'limited' | 'silent' | 'drops';

export interface Peer {
  /** A valid configuration that points to the peer. */
  readonly config: JsonObject;
  behave(behaviour: Behaviour): void;
  /** Requests or sessions begun by now, whatever became of them. */
  seen(): number;
  /** Messages taken by now. */
  accepted(): number;
  close(): Promise<void>;
}

export interface Subject {
  readonly name: string;
  create(egress: Egress): ChannelAdapter & { close?(): void };
  start(): Promise<Peer>;
  /** Changes that make a valid configuration bad, each with the path it has to be reported at. */
  readonly bad: readonly { readonly change: JsonObject; readonly path: string }[];
  /** The change that points a configuration to another port of 127.0.0.1. */
  redirect(port: number): JsonObject;
  readonly addresses: { readonly good: string; readonly bad: string };
  readonly content: Content;
  /** Values that no outcome may contain: secrets of the configuration, addresses, content. The peer quotes them. */
  readonly confidential: readonly string[];
  /** What the peer asks for when it is `limited`, where the protocol can say so. */
  readonly retryAfterMs?: number;
  /** The category and code of `limited`, where it is not RATE_LIMIT. */
  readonly limitedCategory?: string;
}

export function options(signal = new AbortController().signal): SendOptions {
  return { signal, attemptKey: 'attempt-0001', now: new Date() };
}

export function messageOf(config: JsonObject, content: Content, more: Partial<OutgoingMessage> = {}): OutgoingMessage {
  const requestedAt = '2026-03-04T05:06:07.000Z';
  return { deliveryId: 'delivery-1', organizationId: 'organization-1', config, content, requestedAt, ...more };
}

export const LOOPBACK = ['127.0.0.0/8'];

/** What every adapter owes its port, whatever is at the other end. */
export function conforms(subject: Subject, unusedPort: () => Promise<number>): void {
  describe(`${subject.name} keeps the contract of channels`, () => {
    let egress: Egress;
    let adapter: ReturnType<Subject['create']>;
    let peer: Peer;

    beforeEach(async () => {
      egress = new Egress({ allowedNetworks: LOOPBACK });
      adapter = subject.create(egress);
      peer = await subject.start();
    });
    afterEach(async () => {
      await peer.close();
      adapter.close?.();
      await egress.dispatcher.destroy();
    });
    const send = (config = peer.config, signal?: AbortSignal) =>
      adapter.send(messageOf(config, subject.content), options(signal));

    it('describes itself', () => {
      const { channel, provider, configKey, secretFields, limits } = adapter.describe();
      expect(CHANNELS).toContain(channel);
      expect(provider).toMatch(/^[a-z]+$/);
      expect(configKey).toMatch(/^[a-z]+$/);
      expect(secretFields.length).toBeGreaterThan(0);
      expect(limits.maxBytes).toBeGreaterThan(0);
      expect(limits.timeoutMs).toBeGreaterThan(0);
    });

    it('finds nothing wrong with a good configuration', () => {
      expect(adapter.validate(peer.config)).toEqual([]);
    });

    it.each(subject.bad)('reports $path of $change', ({ change, path }) => {
      const problems = adapter.validate({ ...peer.config, ...change });
      expect(problems.map((problem) => problem.path)).toContain(path);
      expect(problems.every(({ problem }) => problem.length > 0)).toBe(true);
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

    it('calls a failing provider temporary', async () => {
      peer.behave('unavailable');
      expect(await send()).toMatchObject({ kind: 'rejected', category: 'TEMPORARY' });
      expect(peer.accepted()).toBe(0);
    });

    it('tells a refused login apart', async () => {
      peer.behave('unauthorized');
      expect(await send()).toMatchObject({ kind: 'rejected', category: 'AUTHENTICATION' });
    });

    it('honours the wish to be left alone for a while', async () => {
      peer.behave('limited');
      const outcome = await send();
      expect(outcome).toMatchObject({ kind: 'rejected', category: subject.limitedCategory ?? 'RATE_LIMIT' });
      const wait = 'retryAfterMs' in outcome ? outcome.retryAfterMs : undefined;
      if (subject.retryAfterMs === undefined) expect(wait).toBeUndefined();
      // A wish given as a point in time has passed by a little when it is read.
      else expect(Math.abs((wait ?? 0) - subject.retryAfterMs)).toBeLessThan(2_000);
    });

    it.each(['unavailable', 'unauthorized', 'limited'] as const)(
      'repeats nothing confidential when %s',
      async (how) => {
        peer.behave(how);
        const outcome = await send();
        expect(outcome.kind).toBe('rejected');
        for (const value of subject.confidential) expect(JSON.stringify(outcome)).not.toContain(value);
        expect(outcome.kind === 'rejected' && outcome.detail.length).toBeLessThanOrEqual(500);
      },
    );

    it('is stopped by its signal while the provider is silent', async () => {
      peer.behave('silent');
      const controller = new AbortController();
      const outcome = send(peer.config, controller.signal);
      await vi.waitFor(() => expect(peer.seen()).toBe(1));
      controller.abort();
      expect(await outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'ABORTED' });
    });

    it('does not begin when its signal is already aborted', async () => {
      expect(await send(peer.config, AbortSignal.abort())).toMatchObject({ kind: 'rejected', code: 'ABORTED' });
      expect(peer.accepted()).toBe(0);
    });

    it('gives up after its own timeout', async () => {
      peer.behave('silent');
      const outcome = await send({ ...peer.config, timeout: 400 });
      expect(outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'TIMEOUT' });
      expect(peer.seen()).toBe(1);
    });

    it('calls a broken connection a matter of the network, and works again afterwards', async () => {
      peer.behave('drops');
      expect(await send()).toMatchObject({ kind: 'rejected', category: 'NETWORK' });
      peer.behave('accepts');
      expect(await send()).toMatchObject({ kind: 'accepted' });
    });

    it('calls a refused connection a matter of the network', async () => {
      const config = { ...peer.config, ...subject.redirect(await unusedPort()) };
      const outcome = await send(config);
      expect(outcome).toMatchObject({ kind: 'rejected', category: 'NETWORK', code: 'ECONNREFUSED' });
      expect(outcome).not.toHaveProperty('inDoubt');
    });

    it('does not connect to an address outside the allowed networks', async () => {
      const strict = new Egress({ allowedNetworks: ['10.0.0.0/8'] });
      const guarded = subject.create(strict);
      const outcome = await guarded.send(messageOf(peer.config, subject.content), options());
      guarded.close?.();
      await strict.close();
      expect(outcome).toMatchObject({ kind: 'rejected', category: 'CONFIGURATION', code: 'BLOCKED_ADDRESS' });
      expect(guarded.validate(peer.config)).not.toEqual([]);
      expect(peer.seen()).toBe(0);
    });

    it('tests a connection without delivering anything', async () => {
      const { signal } = new AbortController();
      expect(await adapter.test(peer.config, { signal })).toMatchObject({ ok: true, problems: [] });
      const dead = { ...peer.config, ...subject.redirect(await unusedPort()) };
      const failed = await adapter.test(dead, { signal });
      expect(failed).toMatchObject({ ok: false, problems: [{ problem: expect.any(String) }] });
      expect(peer.accepted()).toBe(0);
    });
  });
}
