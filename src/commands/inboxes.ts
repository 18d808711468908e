import { delivery } from '../domain/delivery.js';
import { inboxMessage, type StoredMessage } from '../domain/inbox.js';
import { reject } from '../domain/rejection.js';
import { keptWith } from '../domain/retention.js';
import { isUuid } from '../domain/vocabulary.js';
import type { CommandExecutor, Refused } from './executor.js';
import { derivedId, newId } from './ids.js';
import type { Requester, SubjectNames } from './intake.js';

export interface NewMessage extends Omit<StoredMessage, 'subject' | 'keptAs'> {
  /** As the application calls its user. */
  readonly recipient: string;
}

export interface Marked {
  readonly ok: true;
  /** Undefined when it was so already. */
  readonly position: bigint | undefined;
}

/** @param key of the attempt that stores it: attempts by different routes may have one key, and go to different persons */
export const messageIdOf = (deliveryId: string, key: string, person: string): string =>
  derivedId(deliveryId, `inbox/${key}/${person}`);

/** Puts messages into people's inboxes, and notes what people do with them. Each message is a stream of its own. */
export class Inboxes {
  readonly #executor: CommandExecutor;
  readonly #names: Pick<SubjectNames, 'person'>;

  constructor(executor: CommandExecutor, names: Pick<SubjectNames, 'person'>) {
    this.#executor = executor;
    this.#names = names;
  }

  /** The name in the log of whoever an application calls so. */
  personOf(organizationId: string, recipient: string): string {
    const person = this.#names.person(organizationId, 'IN_APP', recipient);
    if (person === undefined) throw new Error('recipients of in-app messages are persons');
    return person;
  }

  /** @param key the same for every attempt at one message: it is stored once */
  async store({ recipient, ...rest }: NewMessage, key: string): Promise<{ readonly id: string }> {
    const { organizationId, deliveryId, content, priority, expiresAt } = rest;
    const subject = this.personOf(organizationId, recipient);
    const id = messageIdOf(deliveryId, key, subject);
    const { state } = await this.#executor.load(delivery, deliveryId);
    const whole = state.tag === 'absent' ? undefined : state.request.subject;
    const keptAs = whole === undefined ? subject : keptWith(whole, subject);
    const message = {
      ...{ organizationId, subject, deliveryId, content, priority, expiresAt },
      ...(keptAs !== subject && { keptAs }),
    };
    const command = { type: 'StoreMessage', now: new Date().toISOString(), message } as const;
    const envelope = { organizationId, commandId: id, actor: 'engine' };
    const stored = await this.#executor.execute(inboxMessage, { id, command, envelope });
    if (!stored.ok) throw new Error(stored.rejection.message);
    return { id };
  }

  /** What is shown in a person's inbox under this id. */
  async find(id: string, person: string): Promise<StoredMessage | undefined> {
    if (!isUuid(id)) return undefined;
    const { state } = await this.#executor.load(inboxMessage, id.toLowerCase());
    const isShown = state.tag === 'stored' && state.subject === person && state.expiresAt > new Date().toISOString();
    return isShown ? state : undefined;
  }

  /** @param person whose inbox it has to be in */
  async mark(id: string, isRead: boolean, person: string, requester: Requester): Promise<Marked | Refused> {
    if (!isUuid(id)) return reject('NOT_FOUND', 'there is no such message in this inbox');
    const { actor, organizationId, traceparent } = requester;
    const command = {
      type: isRead ? 'MarkRead' : 'MarkUnread',
      now: new Date().toISOString(),
      by: actor,
      subject: person,
    } as const;
    const envelope = { organizationId, commandId: newId(), actor, ...(traceparent !== undefined && { traceparent }) };
    return await this.#executor.execute(inboxMessage, { id: id.toLowerCase(), command, envelope });
  }
}
