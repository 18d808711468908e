import type { Rejection } from '../domain/rejection.js';
import { keptSubject } from '../domain/retention.js';
import {
  SUPPRESSIBLE,
  SUPPRESSION_RETENTION,
  type SuppressionReason,
  type SuppressionState,
  suppression,
} from '../domain/suppression.js';
import type { Channel } from '../domain/vocabulary.js';
import type { CommandExecutor } from './executor.js';
import { newId, suppressionId } from './ids.js';

/** The name of the person that an address is of: the same for every spelling, and nobody can tell the address from it. */
export interface PersonNames {
  person(organizationId: string, channel: Channel, address: string): string | undefined;
}

/** One address of one organization, as a channel writes it. */
export interface Addressee {
  readonly organizationId: string;
  readonly channel: Channel;
  readonly address: string;
}

export interface SuppressionCause {
  readonly reason: SuppressionReason;
  readonly by: string;
  readonly happenedAt: Date;
  readonly deliveryId?: string;
  readonly note?: string;
}

export type Changed =
  | { readonly ok: true; readonly state: SuppressionState; readonly position: bigint | undefined }
  | { readonly ok: false; readonly rejection: Rejection };

/** Who gets nothing any more. A stream for each address, so that the list may be long and none of it is ever loaded whole. */
export class Suppressions {
  readonly #executor: CommandExecutor;
  readonly #names: PersonNames;
  readonly #problemWith: (channel: Channel, address: string) => string | undefined;

  constructor(
    executor: CommandExecutor,
    names: PersonNames,
    problemWith: (channel: Channel, address: string) => string | undefined,
  ) {
    this.#executor = executor;
    this.#names = names;
    this.#problemWith = problemWith;
  }

  /** What is wrong with an entry that a person wants to make, or undefined. */
  problemWith(channel: Channel, address: string): string | undefined {
    if (!SUPPRESSIBLE.has(channel)) return `there is no suppression list for ${channel}`;
    return this.#problemWith(channel, address);
  }

  /** Which of the addresses are on the list, and why. Reads one short stream for each of them. */
  async among(
    organizationId: string,
    channel: Channel,
    addresses: readonly string[],
  ): Promise<ReadonlyMap<string, SuppressionReason>> {
    if (!SUPPRESSIBLE.has(channel) || addresses.length === 0) return NOBODY;
    const found = await Promise.all(
      addresses.map(async (address) => {
        const { id } = this.#whose({ organizationId, channel, address });
        const { state } = await this.#executor.load(suppression, id);
        return state.tag === 'listed' ? ([address, state.reason] as const) : undefined;
      }),
    );
    return new Map(found.filter((entry) => entry !== undefined));
  }

  async suppress(addressee: Addressee, { happenedAt, ...cause }: SuppressionCause): Promise<Changed> {
    const address = normal(addressee);
    const { subject } = this.#whose(addressee);
    const { organizationId, channel } = addressee;
    const now = new Date();
    const keptAs = keptSubject(subject, SUPPRESSION_RETENTION, now);
    const command = {
      type: 'SuppressAddress',
      now: now.toISOString(),
      happenedAt: happenedAt.toISOString(),
      entry: { organizationId, channel, address, subject, keptAs, ...cause },
    } as const;
    return await this.#execute(addressee, command, cause.by);
  }

  async release(addressee: Addressee, by: string, note?: string): Promise<Changed> {
    const now = new Date().toISOString();
    const command = { type: 'ReleaseAddress', now, by, ...(note !== undefined && { note }) } as const;
    return await this.#execute(addressee, command, by);
  }

  async #execute(
    addressee: Addressee,
    command: Parameters<typeof suppression.decide>[0],
    actor: string,
  ): Promise<Changed> {
    const envelope = { organizationId: addressee.organizationId, commandId: newId(), actor };
    return await this.#executor.execute(suppression, { id: this.#whose(addressee).id, command, envelope });
  }

  /** The stream has a name that nobody can tell the address from. */
  #whose({ organizationId, channel, address }: Addressee): { readonly id: string; readonly subject: string } {
    const subject = this.#names.person(organizationId, channel, address);
    if (subject === undefined) throw new Error(`addresses of ${channel} are nobody's`);
    return { id: suppressionId(channel, subject), subject };
  }
}

/** The ids of the entries that a person may have. */
export const entriesOf = (person: string): string[] =>
  [...SUPPRESSIBLE].map((channel) => suppressionId(channel, person));

const NOBODY: ReadonlyMap<string, SuppressionReason> = new Map();

/** Mailboxes that tell upper from lower case are not met in practice; people who complain about both spellings are. */
const normal = ({ channel, address }: Addressee): string => (channel === 'EMAIL' ? address.toLowerCase() : address);
