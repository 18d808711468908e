import type { Instant, Json, Priority } from '../../domain/vocabulary.js';

/** What the in-app channel stores messages in: Waybill's own inboxes, plugged in at the top of the application. */
export interface InboxPort {
  /**
   * Resolves when the message is durable. The same key stores it once.
   *
   * @throws when the log is out of reach
   */
  store(message: InboxMessage, key: string): Promise<{ readonly id: string }>;
}

export interface InboxMessage {
  readonly organizationId: string;
  readonly deliveryId: string;
  /** Whose inbox: as the application calls its user. */
  readonly recipient: string;
  readonly content: { readonly title?: string; readonly text?: string; readonly data?: Json };
  readonly priority: Priority;
  readonly expiresAt: Instant;
}

const RECIPIENT_LIMIT = 255;

export function problemWithRecipient(text: string): string | undefined {
  return text.trim() !== '' && text.length <= RECIPIENT_LIMIT && !/\p{Cc}/u.test(text)
    ? undefined
    : `must have 1 to ${RECIPIENT_LIMIT} characters, and no control characters`;
}
