import type { Checks } from './checks.js';
import { countVerified, kindOf, PATHS, type Receivers, webhookId } from './receivers.js';
import type { Outcome } from './requests.js';

/** The end of the demo: what was sent, what was received, and whether the two agree. */

export function table(outcomes: readonly Outcome[]): string {
  const head = ['delivery', 'channel', 'attempts', 'status', 'milliseconds'];
  const rows = outcomes.map(({ name, channel, attempts, status, milliseconds }) => [
    name,
    channel,
    String(attempts),
    status,
    String(milliseconds),
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] ?? '').length)));
  const isNumber = (column: number) => column === 2 || column === 4;
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (isNumber(column) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n');
}

/** What the receivers got, with the checks that concern all of it. */
export function received(
  { mails, webhooks }: Receivers,
  signingSecrets: ReadonlyMap<string, string>,
  checks: Checks,
): string {
  const kinds = new Map<string, number>();
  for (const webhook of webhooks) kinds.set(kindOf(webhook), (kinds.get(kindOf(webhook)) ?? 0) + 1);
  const ids = new Set(webhooks.map(webhookId));
  const verified = countVerified(webhooks, signingSecrets);

  checks.equal(signingSecrets.size, Object.keys(PATHS).length + 1, 'signing secrets shown, one for each webhook');
  checks.equal(verified, webhooks.length, 'webhooks whose signature is right');
  // 1,000 audit events; report, PHI access, prescription, shift summary; and the archive export under two ids, since a
  // retry asked for by a person is a new thing to its receiver.
  checks.equal(ids.size, 1_006, 'different webhook-ids');
  checks.equal(mails.length, 3, 'e-mails');

  const counts = [...kinds].map(([kind, count]) => `${count} ${kind}`).join(', ');
  return [
    `The webhook receiver got ${webhooks.length} requests: ${counts}`,
    `  ${ids.size} different webhook-ids, ${verified} signatures verified by the standardwebhooks package`,
    `The mail server got ${mails.length} e-mails:`,
    ...mails.map(({ mail, to }) => `  "${mail.subject}" to ${to.join(', ')}`),
  ].join('\n');
}

/** @returns the last words, and whether all is well */
export function verdict({ failures, made }: Checks, seconds: number): { isWell: boolean; words: string } {
  if (failures.length === 0)
    return { isWell: true, words: `All ${made} checks hold. Done in ${seconds.toFixed(1)} s.` };
  const list = failures.map((failure) => `  - ${failure}`).join('\n');
  return { isWell: false, words: `${failures.length} of ${made} checks do NOT hold:\n${list}` };
}
