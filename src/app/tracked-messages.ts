import type { TrackingLinks } from '../channels/email/tracking.js';
import type { DestinationDirectory } from '../commands/destination-directory.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import type { JsonObject } from '../domain/vocabulary.js';
import type { TrackedMessage } from '../http/tracking.js';

const ATTEMPT_KEY = /^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_(\d{1,9})(?:_r\d{1,9})?$/;

/** Finds the message that a link is in, by the attempt's key in the link. */
export const trackedMessages =
  (
    load: (deliveryId: string) => Promise<{ readonly state: DeliveryState }>,
    directory: Pick<DestinationDirectory, 'find'>,
    links: TrackingLinks,
  ) =>
  async (attemptKey: string, unsubscribing?: { readonly signature: string }): Promise<TrackedMessage | undefined> => {
    const [, deliveryId, legNumber] = ATTEMPT_KEY.exec(attemptKey) ?? [];
    if (deliveryId === undefined) return undefined;
    const { state } = await load(deliveryId);
    const leg = state.tag === 'absent' ? undefined : state.legs.find((each) => each.leg === Number(legNumber));
    if (state.tag === 'absent' || !leg) return undefined;
    const { organizationId } = state.request;
    for (const { channel, destinationId, address: bare, provider = 'smtp' } of leg.routes.slice(0, leg.route + 1)) {
      if (channel !== 'EMAIL') continue;
      const address =
        bare ?? onlyRecipient((destinationId && (await directory.find(destinationId))?.config) || undefined);
      const { signature } = unsubscribing ?? {};
      const isTheirs =
        address !== undefined && links.isGenuine('unsubscribe', attemptKey, address.toLowerCase(), signature ?? '');
      if (signature !== undefined && !isTheirs) continue;
      const source = { channel, provider, organizationId, ...(destinationId !== undefined && { destinationId }) };
      return { source, ...(address !== undefined && { address }) };
    }
    return undefined;
  };

/** Of a destination whose messages go to one person alone. */
function onlyRecipient(config: JsonObject | undefined): string | undefined {
  const { recipients = [], cc = [], bcc = [] } = (config?.email ?? {}) as { readonly [key: string]: readonly string[] };
  const all = [...recipients, ...cc, ...bcc];
  return all.length === 1 ? all[0] : undefined;
}
