import type { Callback, CallbackRequest } from '../channel.js';
import { at } from '../net/json.js';
import { APPROVE, REJECT } from '../vendors/slack-approval.js';
import { header, hmac, isSame, isTimely, objectIn, refused, textOf } from './callback.js';

/**
 * Clicks on buttons, as Slack posts them (https://docs.slack.dev/authentication/verifying-requests-from-slack and
 * https://docs.slack.dev/interactivity/handling-user-interaction).
 */
export interface SlackCallbackConfig {
  readonly signingSecret?: string;
  readonly approvals?: { readonly approvers: Readonly<Record<string, string>> };
}

/** @param reply posts to the `response_url` of the click */
export function readSlack(
  request: CallbackRequest,
  { signingSecret, approvals }: SlackCallbackConfig,
  reply: (url: string, message: object) => Promise<void>,
): Callback {
  if (signingSecret === undefined) return refused('no signing secret is configured');
  const seconds = header(request, 'x-slack-request-timestamp');
  if (!isTimely(seconds, request.now)) return refused('the time of the signature is too far away');
  const signed = Buffer.concat([Buffer.from(`v0:${seconds}:`), request.body]);
  const expected = `v0=${hmac('sha256', signingSecret, signed, 'hex')}`;
  if (!isSame(header(request, 'x-slack-signature'), expected)) return refused('the signature is wrong');

  const form = new URLSearchParams(request.body.toString('utf8'));
  const payload = objectIn(Buffer.from(form.get('payload') ?? ''));
  const action = textOf(at(payload, 'actions.0.action_id'));
  const user = textOf(at(payload, 'user.id'));
  const providerMessageId = textOf(at(payload, 'container.message_ts')) ?? textOf(at(payload, 'message.ts'));
  // Other clicks are of other parts of the app, and none of our business.
  if (payload?.type !== 'block_actions' || !user || !providerMessageId || (action !== APPROVE && action !== REJECT))
    return { kind: 'verified', reports: [] };

  const approvers = approvals?.approvers ?? {};
  const approver = Object.hasOwn(approvers, user) ? approvers[user] : undefined;
  const url = textOf(payload.response_url);
  return {
    kind: 'verified',
    reports: [],
    answer: {
      providerMessageId,
      outcome: action === APPROVE ? 'approve' : 'reject',
      ...(approver !== undefined && { approver }),
      tell: async (text, isFinal) => {
        const message = isFinal
          ? { replace_original: true, text: `${text} <@${user}>` }
          : { response_type: 'ephemeral', text };
        if (url !== undefined) await reply(url, { replace_original: false, ...message });
      },
    },
  };
}
