import type { RecordReport } from '../domain/delivery-commands.js';
import type { SuppressionReason } from '../domain/suppression.js';
import { type Channel, isUuid, type ProviderReport } from '../domain/vocabulary.js';
import type { Deliveries } from './deliveries.js';
import { derivedId } from './ids.js';
import type { Suppressions } from './suppressions.js';

/** Through whose configuration the reports came: a destination, or a provider of the instance's configuration. */
export interface ReportSource {
  readonly channel: Channel;
  readonly provider: string;
  readonly destinationId?: string;
  /** Whose it is; missing for a provider of the instance, which is everybody's. */
  readonly organizationId?: string;
  /** Lower case. Whoever is not among them had a copy, which says nothing of the delivery; missing: anybody may. */
  readonly recipients?: readonly string[];
}

/** An attempt that is known by the id that the provider gave the message. */
export interface KnownMessage {
  readonly deliveryId: string;
  readonly leg: number;
}

export interface ReportParts {
  readonly deliveries: Pick<Deliveries, 'change' | 'organizationOf'>;
  readonly suppressions: Suppressions;
  /** Looks in the read models, so it may be a little behind. */
  readonly findMessage: (providerMessageId: string, source: ReportSource) => Promise<KnownMessage | undefined>;
}

/** A report about a message that is not known (yet) is asked for again, while it is so young. */
const YOUNG_MS = 15 * 60_000;

const REASONS: Partial<Record<ProviderReport['kind'], SuppressionReason>> = {
  Bounced: 'BOUNCE',
  Complained: 'COMPLAINT',
  OptedOut: 'OPT_OUT',
};

const ATTEMPT_KEY = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_(\d{1,9})(?:_r(\d{1,9}))?$/;

/** What providers say of messages they have accepted, and of addresses, becomes events. Saying it again changes nothing. */
export class ProviderReports {
  readonly #parts: ReportParts;

  constructor(parts: ReportParts) {
    this.#parts = parts;
  }

  /** @returns how many of them should be sent again later, as what they are about is not known yet */
  async take(reports: readonly ProviderReport[], source: ReportSource, now: Date): Promise<number> {
    let early = 0;
    for (const report of reports) {
      const message = await this.#messageOf(report, source);
      if (message) await this.#record(report, source, message);
      else if (report.providerMessageId !== undefined && now.getTime() - report.at.getTime() < YOUNG_MS) early += 1;
      await this.#suppress(report, source, message?.deliveryId);
    }
    return early;
  }

  async #messageOf(
    { attemptKey, deliveryId, providerMessageId }: ProviderReport,
    source: ReportSource,
  ): Promise<(KnownMessage & { readonly round?: number }) | undefined> {
    const [, id, leg, round = '0'] = ATTEMPT_KEY.exec(attemptKey ?? '') ?? [];
    if (id !== undefined && (deliveryId === undefined || id === deliveryId))
      return { deliveryId: id, leg: Number(leg), round: Number(round) };
    return providerMessageId === undefined ? undefined : await this.#parts.findMessage(providerMessageId, source);
  }

  async #record(
    report: ProviderReport,
    source: ReportSource,
    { deliveryId, leg, round }: KnownMessage & { readonly round?: number },
  ): Promise<void> {
    const { kind, address, code, detail } = report;
    if (kind === 'OptedIn' || !isUuid(deliveryId)) return;
    const decides = kind === 'Delivered' || kind === 'Bounced';
    const isCopy = address !== undefined && source.recipients?.includes(address.toLowerCase()) === false;
    if (decides && isCopy) return;
    const { channel, provider, destinationId, organizationId } = source;
    const command: RecordReport = {
      type: 'RecordReport',
      now: new Date().toISOString(),
      kind,
      leg,
      ...(round !== undefined && { round }),
      via: {
        channel,
        ...(destinationId !== undefined && { destinationId }),
        ...(address !== undefined && { address }),
      },
      provider,
      reportId: derivedId(deliveryId, `report/${provider}/${report.id}`),
      happenedAt: report.at.toISOString(),
      recipient: derivedId(deliveryId, `recipient/${address?.toLowerCase() ?? ''}`).slice(0, 8),
      ...(kind === 'Bounced' && {
        failure: { category: 'PERMANENT', code: code ?? 'BOUNCED', message: detail ?? 'the provider gives no reason' },
      }),
    };
    // One that fits no attempt of the delivery is a report about nothing, and refused as such.
    const mayAccess = (owner: string) => organizationId === undefined || owner === organizationId;
    await this.#parts.deliveries.change(deliveryId, command, { actor: `provider:${provider}` }, mayAccess);
  }

  async #suppress(report: ProviderReport, source: ReportSource, deliveryId: string | undefined): Promise<void> {
    const { kind, address, at, suppress, code } = report;
    if (address === undefined || (!suppress && kind !== 'OptedIn')) return;
    // A provider of the instance serves several organizations: only a delivery tells which of them is meant.
    const owner = source.organizationId ?? (deliveryId && (await this.#parts.deliveries.organizationOf(deliveryId)));
    if (!owner) return;
    const addressee = { organizationId: owner, channel: source.channel, address };
    const by = `provider:${source.provider}`;
    // Whoever says START takes back their own STOP, and nothing that others have said.
    if (kind === 'OptedIn') {
      const listed = await this.#parts.suppressions.among(owner, source.channel, [address]);
      if (listed.get(address) === 'OPT_OUT') await this.#parts.suppressions.release(addressee, by);
      return;
    }
    const reason = REASONS[kind] ?? 'BOUNCE';
    const more = { ...(deliveryId !== undefined && { deliveryId }), ...(code !== undefined && { note: code }) };
    await this.#parts.suppressions.suppress(addressee, { reason, by, happenedAt: at, ...more });
  }
}
