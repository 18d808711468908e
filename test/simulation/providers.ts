import { z } from 'zod';
import type {
  ChannelAdapter,
  ChannelDescription,
  LookupOptions,
  LookupResult,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../../src/channels/channel.js';
import { abortReason } from '../../src/channels/outcome.js';
import type { Channel, JsonObject } from '../../src/domain/vocabulary.js';
import type { AdapterChoice, Adapters, ConfiguredProvider } from '../../src/sagas/targets.js';
import type { Fate, SimulatedChannel } from './plan.js';
import type { Random } from './random.js';
import type { Host, Scheduler } from './scheduler.js';
import { EPOCH_MS } from './virtual-globals.js';

/** One call as the provider sees it. */
export interface Call {
  readonly number: number;
  readonly atMs: number;
  readonly host: Host;
  readonly deliveryId: string;
  /** The address it goes to; with the delivery, it tells leg and route. */
  readonly address: string;
  readonly description: ChannelDescription;
  readonly key: string;
  /** The provider has it, and has done what it was asked. */
  isAccepted: boolean;
}

/** Longest time a call takes when its provider keeps silent. */
const TIMEOUT_MS = 6_000;

const description = (
  channel: SimulatedChannel,
  provider: string,
  rest: Pick<ChannelDescription, 'idempotency' | 'inDoubt' | 'acceptanceIsDelivery'>,
): ChannelDescription => ({
  ...{ channel, provider, configKey: channel.toLowerCase(), secretFields: [] },
  limits: { maxBytes: 1_000_000, timeoutMs: TIMEOUT_MS },
  ...rest,
});

/** Every kind of idempotency, both ways of resolving a doubt, and a channel with two providers. */
const DESCRIPTIONS: readonly ChannelDescription[] = [
  description('WEBHOOK', 'webhook', { idempotency: 'keyed', inDoubt: 'resend', acceptanceIsDelivery: true }),
  description('SFTP', 'vault', { idempotency: 'natural', inDoubt: 'resend', acceptanceIsDelivery: true }),
  description('EMAIL', 'smtp', { idempotency: 'none', inDoubt: 'resend', acceptanceIsDelivery: false }),
  description('EMAIL', 'sendgrid', { idempotency: 'none', inDoubt: 'resend', acceptanceIsDelivery: false }),
  description('SMS', 'twilio', { idempotency: 'none', inDoubt: 'hold', acceptanceIsDelivery: false }),
];
/** Providers that can be asked for what they have accepted. */
const WITH_RECORDS: ReadonlySet<string> = new Set(['twilio']);

/** How many providers a bare address of the channel can be sent through. */
export const providersOf = (channel: Channel): number => DESCRIPTIONS.filter((each) => each.channel === channel).length;

/** A configuration that leads to an address. */
export function configTo(channel: Channel, address: string, provider?: string): JsonObject {
  const { configKey, provider: first } = DESCRIPTIONS.find((each) => each.channel === channel) as ChannelDescription;
  return { [configKey]: { url: address, service: provider ?? first } };
}

/** What an instance is configured with, for bare addresses that do not say it all. */
export const PROVIDERS: readonly ConfiguredProvider[] = DESCRIPTIONS.filter(({ channel }) => channel !== 'WEBHOOK').map(
  ({ channel, provider }) => ({ name: provider, channel, config: configTo(channel, '', provider) }),
);

export interface ProviderParts {
  readonly scheduler: Scheduler;
  /** What becomes of a call; `nth` counts those to one address for one delivery from 0. */
  readonly fateOf: (deliveryId: string, address: string, nth: number) => Fate;
  /** Told of each call when it is made. */
  readonly onCall: (call: Call) => void;
  /** Told of each answer when the provider gives it. */
  readonly onAnswer: (call: Call, answer: string) => void;
}

/** The database's clock, by which attempts are dated, and the providers' own. */
const CLOCKS_DIFFER_MS = 5_000;

/** Everybody who can be sent something: what was called, what was accepted. */
export class Providers {
  readonly calls: Call[] = [];
  readonly #parts: ProviderParts;
  readonly #counts = new Map<string, number>();
  /** Address and key of what was accepted before, and the call that was. */
  readonly #accepted = new Map<string, Call>();

  constructor(parts: ProviderParts) {
    this.#parts = parts;
  }

  /** The adapters as one run of an instance has them. */
  adaptersFor(host: Host, random: Random): Adapters {
    const adapters = DESCRIPTIONS.map((description) => {
      const receive: Receive = (call, signal) => this.#receive({ ...call, host }, random, signal);
      return WITH_RECORDS.has(description.provider)
        ? new AdapterWithRecords(description, receive, (about) => this.#lookUp(about, host, random))
        : new SimulatedAdapter(description, receive);
    });
    return {
      adapterFor(channel, config): AdapterChoice {
        const own = config[channel.toLowerCase()] as JsonObject;
        const adapter =
          adapters.find((each) => each.describe().channel === channel && each.describe().provider === own.service) ??
          adapters.find((each) => each.describe().channel === channel);
        if (!adapter) throw new Error(`no adapter for ${channel}`);
        return { adapter, config: own };
      },
    };
  }

  /** What the provider's records say of calls with a key from a time on; sometimes they do not answer. */
  #lookUp({ address, key, since }: Wanted, host: Host, random: Random): Promise<LookupResult> {
    const { scheduler } = this.#parts;
    return new Promise((resolve) => {
      scheduler.after(random.between(1, 300), undefined, () => {
        const fromMs = since.getTime() - EPOCH_MS - CLOCKS_DIFFER_MS;
        const found = this.calls.find(
          (call) => call.address === address && call.key === key && call.atMs >= fromMs && call.isAccepted,
        );
        const answer: LookupResult = random.chance(0.3)
          ? { kind: 'unknown' }
          : found
            ? { kind: 'found', providerMessageId: `call-${found.number}`, delivered: false }
            : { kind: 'not-found' };
        scheduler.after(random.between(1, 5), host, () => resolve(answer));
      });
    });
  }

  #receive(
    given: Pick<Call, 'deliveryId' | 'address' | 'description' | 'key' | 'host'>,
    random: Random,
    signal: AbortSignal,
  ) {
    const { scheduler, fateOf, onCall } = this.#parts;
    const { host, deliveryId, address } = given;
    const call: Call = { ...given, number: this.calls.length + 1, atMs: scheduler.nowMs, isAccepted: false };
    this.calls.push(call);
    onCall(call);
    const target = `${deliveryId} ${address}`;
    const nth = this.#counts.get(target) ?? 0;
    this.#counts.set(target, nth + 1);
    const fate = fateOf(deliveryId, address, nth);
    const wayMs = random.between(0.2, 5);
    return new Promise<SendOutcome>((resolve) => {
      signal.addEventListener('abort', () => resolve(unanswered(call, abortReason(signal).name)));
      scheduler.after(wayMs, undefined, () => {
        const afterMs = 'afterMs' in fate ? fate.afterMs : 0;
        scheduler.after(afterMs, undefined, () => {
          const outcome = this.#answer(call, fate);
          if (outcome) scheduler.after(wayMs, host, () => resolve(outcome));
        });
      });
    });
  }

  #answer(call: Call, fate: Fate): SendOutcome | undefined {
    const { description, number } = call;
    if (fate.does === 'refuse') {
      this.#parts.onAnswer(call, `refused as ${fate.category}`);
      const { category, retryAfterMs, gone } = fate;
      return {
        ...{ kind: 'rejected', category, code: 'REFUSED', detail: `call ${number} was refused` },
        ...(retryAfterMs !== undefined && { retryAfterMs }),
        ...(gone && { gone }),
      };
    }
    const isAccepted = fate.does === 'accept' || fate.accepts;
    if (isAccepted) this.#accept(call);
    this.#parts.onAnswer(call, `${isAccepted ? 'accepted' : 'lost'}${fate.does === 'accept' ? '' : `, ${fate.does}`}`);
    if (fate.does === 'keep silent') return undefined;
    if (fate.does === 'break off') return unanswered(call, 'SocketError');
    const first = description.idempotency === 'none' ? call : (this.#accepted.get(placeOf(call)) ?? call);
    return { kind: 'accepted', providerMessageId: `call-${first.number}`, delivered: description.acceptanceIsDelivery };
  }

  #accept(call: Call): void {
    call.isAccepted = true;
    const place = placeOf(call);
    if (!this.#accepted.has(place)) this.#accepted.set(place, call);
  }
}

interface Wanted {
  readonly address: string;
  readonly key: string;
  readonly since: Date;
}

const placeOf = ({ address, key }: Call): string => `${address} ${key}`;

const unanswered = ({ number }: Call, why: string): SendOutcome => ({
  ...{ kind: 'rejected', category: 'NETWORK', code: 'NO_ANSWER', detail: `call ${number} was not answered: ${why}` },
  inDoubt: true,
});

type Receive = (
  call: Pick<Call, 'deliveryId' | 'address' | 'description' | 'key'>,
  signal: AbortSignal,
) => Promise<SendOutcome>;

class SimulatedAdapter implements ChannelAdapter {
  readonly schema = z.looseObject({});
  readonly #description: ChannelDescription;
  readonly #receive: Receive;

  constructor(description: ChannelDescription, receive: Receive) {
    this.#description = description;
    this.#receive = receive;
  }

  describe(): ChannelDescription {
    return this.#description;
  }

  validate(): [] {
    return [];
  }

  async test() {
    return { ok: true, latencyMs: 0, problems: [] };
  }

  send(message: OutgoingMessage, { signal, attemptKey }: SendOptions): Promise<SendOutcome> {
    const { deliveryId, config } = message;
    const call = { deliveryId, address: String(config.url), description: this.#description, key: attemptKey };
    return this.#receive(call, signal);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, url: address };
  }

  validateAddress(): undefined {
    return undefined;
  }
}

class AdapterWithRecords extends SimulatedAdapter {
  readonly #lookUp: (wanted: Wanted) => Promise<LookupResult>;

  constructor(description: ChannelDescription, receive: Receive, lookUp: (wanted: Wanted) => Promise<LookupResult>) {
    super(description, receive);
    this.#lookUp = lookUp;
  }

  lookup({ config }: OutgoingMessage, { attemptKey, since }: LookupOptions): Promise<LookupResult> {
    return this.#lookUp({ address: String(config.url), key: attemptKey, since });
  }
}
