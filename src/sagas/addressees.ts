import type { Channel, Content, Json, JsonObject } from '../domain/vocabulary.js';

/** Whom a message goes to, and what is left of it when some of them may not get it. */

/** Which of the addresses are on the organization's suppression list. */
export type Among = (
  organizationId: string,
  channel: Channel,
  addresses: readonly string[],
) => Promise<ReadonlyMap<string, unknown>>;

/** Puts an address on that list, as a provider has said that nobody is there any more. */
export type Suppress = (
  addressee: { readonly organizationId: string; readonly channel: Channel; readonly address: string },
  cause: { readonly deliveryId: string; readonly provider: string; readonly code: string },
) => Promise<void>;

export interface Addressed {
  /** The channel's own object of the configuration. */
  readonly config: JsonObject;
  readonly content: Content;
}

/**
 * @param bare the route's address, where it is no destination
 * @returns the message for those who may get it; undefined when nobody is left whom it is for
 */
export async function withoutSuppressed(
  { config, content }: Addressed,
  organizationId: string,
  channel: Channel,
  among: Among,
  bare?: string,
): Promise<Addressed | undefined> {
  const main = bare === undefined ? listOf(config.recipients ?? config.to) : [bare];
  const { email } = content;
  const copies = [...listOf(config.cc), ...listOf(config.bcc), ...(email?.cc ?? []), ...(email?.bcc ?? [])];
  const suppressed = await among(organizationId, channel, [...main, ...copies]);
  if (suppressed.size === 0) return { config, content };
  const left = (list: readonly string[]) => list.filter((address) => !suppressed.has(address));
  if (left(main).length === 0) return undefined;
  return {
    config: {
      ...config,
      ...(config.recipients !== undefined && { recipients: left(main) }),
      ...(config.cc !== undefined && { cc: left(listOf(config.cc)) }),
      ...(config.bcc !== undefined && { bcc: left(listOf(config.bcc)) }),
    },
    content: email
      ? {
          ...content,
          email: { ...email, ...(email.cc && { cc: left(email.cc) }), ...(email.bcc && { bcc: left(email.bcc) }) },
        }
      : content,
  };
}

function listOf(value: Json | undefined): readonly string[] {
  const list = Array.isArray(value) ? value : [value];
  return list.filter((address) => typeof address === 'string');
}
