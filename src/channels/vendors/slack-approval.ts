import type { Json } from '../../domain/vocabulary.js';

/** The message that asks approvers in Slack: what waits, and two buttons (https://docs.slack.dev/reference/block-kit). */

export const APPROVE = 'waybill_approve';
export const REJECT = 'waybill_reject';

interface Approval {
  readonly deliveryId: string;
  readonly minimum: number;
  readonly approvers: number;
  readonly channels: readonly string[];
  readonly deadline?: string;
}

/** What waits, when the request's data has an `approval`; undefined otherwise. */
export function approvalIn(data: Json | undefined): Approval | undefined {
  const approval = typeof data === 'object' && data !== null && 'approval' in data ? data.approval : undefined;
  return typeof approval === 'object' && approval !== null && 'deliveryId' in approval
    ? (approval as unknown as Approval)
    : undefined;
}

export function approvalBlocks({ deliveryId, minimum, approvers, channels, deadline }: Approval): readonly Json[] {
  const button = (action: string, text: string, style: string): Json => ({
    ...{ type: 'button', action_id: action, style, value: String(deliveryId) },
    text: { type: 'plain_text', text },
  });
  const until = deadline === undefined ? '' : ` until ${deadline}`;
  const text = `A delivery over ${channels.join(', ')} waits for ${minimum} of ${approvers} approvers${until}:\n\`${deliveryId}\``;
  return [
    { type: 'section', text: { type: 'mrkdwn', text } },
    { type: 'actions', elements: [button(APPROVE, 'Approve', 'primary'), button(REJECT, 'Reject', 'danger')] },
  ];
}
