import type { DeliveryState } from '../domain/delivery-state.js';
import { STATUS_ACTOR } from '../domain/status-events.js';
import { isUuid, type JsonObject } from '../domain/vocabulary.js';
import type { EventReader } from '../event-store/event-store.js';
import type { Deliveries } from './deliveries.js';
import { isObject } from './delivery-input.js';
import type { KnownMessage, ReportSource } from './provider-reports.js';

/** What somebody answered to a message that asked for an approval, in the place where it was asked. */
export interface ApprovalAnswer {
  /** Of the message that asked. */
  readonly providerMessageId: string;
  readonly outcome: 'approve' | 'reject';
  /** Who answered, as the log names actors; missing for somebody whom the configuration does not name. */
  readonly approver?: string;
  /** Tells whoever answered what came of it; `isFinal` when nobody is to answer any more. */
  tell(text: string, isFinal: boolean): Promise<void>;
}

export interface ApprovalAnswerParts {
  readonly deliveries: Pick<Deliveries, 'change'>;
  readonly reader: EventReader;
  readonly load: (id: string) => Promise<{ readonly state: DeliveryState }>;
  /** Looks in the read models, so it may be a little behind. */
  readonly findMessage: (providerMessageId: string, source: ReportSource) => Promise<KnownMessage | undefined>;
}

/** Answers become Approve and Reject, as if their approvers had called the API. */
export class ApprovalAnswers {
  readonly #parts: ApprovalAnswerParts;

  constructor(parts: ApprovalAnswerParts) {
    this.#parts = parts;
  }

  /** @returns why it was refused, for the access log; undefined when it counts */
  async take(answer: ApprovalAnswer, source: ReportSource): Promise<string | undefined> {
    const { outcome, approver, providerMessageId } = answer;
    const refusal = async (reason: string) => {
      // That the answer cannot be told changes nothing of it.
      await answer.tell(`This does not count: ${reason}.`, false).catch(() => undefined);
      return reason;
    };
    if (approver === undefined) return await refusal('this account is no approver');
    const carrier = await this.#parts.findMessage(providerMessageId, source);
    const deliveryId = carrier && (await this.#askedFor(carrier.deliveryId, source));
    if (deliveryId === undefined) return await refusal('this message asked for no approval');
    const now = new Date().toISOString();
    const word = `by a button in ${source.provider}`;
    const result = await this.#parts.deliveries.change(
      deliveryId,
      outcome === 'approve'
        ? { type: 'Approve', now, approver, comment: word }
        : { type: 'Reject', now, approver, reason: word },
      { actor: approver },
      (organizationId) => organizationId === source.organizationId,
    );
    if (!result.ok) return await refusal(result.rejection.message);
    const isOpen = result.state.tag === 'held' && result.state.holds.approval !== undefined;
    const said = outcome === 'approve' ? 'Approved by' : 'Rejected by';
    await answer.tell(isOpen ? 'Your approval counts; others are still asked.' : said, !isOpen).catch(() => undefined);
    return undefined;
  }

  /**
   * Which delivery the message is about. Only messages count that Waybill has sent by itself: anybody who may request
   * deliveries could make one that looks the same, and says something else.
   */
  async #askedFor(carrier: string, { organizationId }: ReportSource): Promise<string | undefined> {
    const [first] = await this.#parts.reader.readStream(`delivery-${carrier}`, { limit: 1 });
    if (first?.metadata.actor !== STATUS_ACTOR || first.metadata.organizationId !== organizationId) return undefined;
    const { state } = await this.#parts.load(carrier);
    const data = state.tag === 'absent' ? undefined : state.request.content.data;
    const approval = isObject(data) ? (data as JsonObject).approval : undefined;
    const id = isObject(approval) ? approval.deliveryId : undefined;
    return typeof id === 'string' && isUuid(id) ? id : undefined;
  }
}
