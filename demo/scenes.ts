import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { WaybillProcess } from '../test/support/waybill-process.js';
import type { Checks } from './checks.js';
import * as hospital from './hospital.js';
import type { Receivers } from './receivers.js';
import {
  deadLetters,
  deliveryIdOf,
  downloadUrl,
  history,
  inboxOf,
  type Outcome,
  outcome,
  request,
  untilDelivered,
} from './requests.js';
import { hasEnded, isDeadLettered, isHeldFor, type Watch } from './watch.js';

/** What the hospital does in one morning, one function for each thing. Each gives the lines of the table it makes. */

export interface Stage {
  readonly waybill: WaybillProcess;
  readonly receivers: Receivers;
  readonly destinations: hospital.Destinations;
  readonly watch: Watch;
  readonly checks: Checks;
  /** Tells the spectator. */
  say(words: string): void;
}

const SCHEDULE_AHEAD_MS = 5_000;
const BULK_SIZE = 1_000;
const BULK_TAG = 'login-audit';

export async function dailyReport({ receivers, destinations, checks, say, ...stage }: Stage): Promise<Outcome> {
  const { complianceEmail, siemWebhook } = destinations;
  const { delivery } = await request(stage, {
    to: [{ destinationId: complianceEmail }, { destinationId: siemWebhook }],
    content: { data: hospital.dailyReport() },
    correlationId: `daily-report-${hospital.today()}`,
    tags: ['compliance', 'daily', 'automated'],
    metadata: { reportType: 'daily-compliance', confidentiality: 'internal', retentionDays: 2555 },
  });
  const ended = await stage.watch.until(delivery.id, hasEnded);
  const [mail] = receivers.mailsOf(delivery.id);
  say(`daily report: the mail server took "${mail?.mail.subject}", the SIEM answered 204`);

  checks.equal(
    ended.legs.map(({ status }) => status).join(),
    'SENT,DELIVERED',
    'status of the report, e-mail and SIEM',
  );
  checks.equal(receivers.mailsOf(delivery.id).length, 1, 'e-mails with the daily report');
  checks.equal(mail?.to.join(), 'compliance@hospital.com,security@hospital.com', 'recipients of the daily report');
  checks.equal(mail?.mail.subject, `Daily Compliance Report - ${hospital.today()}`, 'subject of the daily report');
  const numbers = ['15420', '23', '4711'].filter((number) => mail?.mail.text?.includes(number));
  checks.equal(numbers.length, 3, 'of three numbers in the body of the daily report');
  const [webhook] = receivers.webhooksOf(delivery.id);
  checks.equal(webhook?.headers['x-source'], 'audit-system', 'header X-Source at the SIEM');
  return outcome('Daily report', ended);
}

export async function urgentTwice({ receivers, destinations, checks, say, ...stage }: Stage): Promise<Outcome> {
  const event = hospital.phiAccess();
  const input = {
    to: [{ destinationId: destinations.siemWebhook }],
    content: { data: event },
    priority: 'URGENT',
    idempotencyKey: `phi-access-${event.eventId}`,
  };
  const first = await request(stage, input);
  const second = await request(stage, input);
  const ended = await stage.watch.until(first.delivery.id, hasEnded);
  say('PHI access: reported twice under one idempotency key, delivered once');

  checks.equal(`${first.replayed},${second.replayed}`, 'false,true', '"replayed" in the two answers');
  checks.equal(second.delivery.id, first.delivery.id, 'delivery of the repeated request');
  checks.equal(receivers.webhooksOf(first.delivery.id).length, 1, 'times the PHI access event came to the SIEM');
  return outcome('PHI access, urgent, requested twice', ended);
}

export async function flakyReceiver({ receivers, destinations, checks, say, ...stage }: Stage): Promise<Outcome> {
  const { delivery } = await request(stage, {
    to: [{ destinationId: destinations.pharmacyWebhook }],
    content: { data: hospital.prescriptionChange() },
    priority: 'HIGH',
  });
  const ended = await stage.watch.until(delivery.id, hasEnded);
  say('prescription: the pharmacy answered 503, 503 and then 204');

  const webhooks = receivers.webhooksOf(delivery.id);
  checks.equal(ended.status, 'DELIVERED', 'status of the prescription');
  checks.equal(webhooks.length, 3, 'attempts that reached the pharmacy');
  checks.equal(new Set(webhooks.map(({ headers }) => headers['webhook-id'])).size, 1, 'webhook-ids of these attempts');
  return outcome('Prescription, pharmacy fails twice', ended);
}

export async function deadReceiver({ receivers, destinations, checks, say, ...stage }: Stage): Promise<Outcome> {
  const { pagerWebhook, onCallEmail } = destinations;
  const { delivery } = await request(stage, {
    to: [{ destinationId: pagerWebhook, fallback: [{ destinationId: onCallEmail }] }],
    content: { data: hospital.highRiskAlert() },
    priority: 'URGENT',
    tags: ['alert', 'high-risk', 'phi-access'],
  });
  const ended = await stage.watch.until(delivery.id, hasEnded);
  const events = await history(stage.waybill, delivery.id);
  say(`alert: the pager gateway is dead, so e-mail it was; the log has ${events.join(', ')}`);

  const [mail] = receivers.mailsOf(delivery.id);
  checks.equal(ended.status, 'SENT', 'status of the alert');
  checks.equal(mail?.mail.subject, 'Alert - high-risk-phi-access', 'subject of the e-mail that replaced the page');
  checks.equal(events.filter((type) => type === 'FallbackChosen').length, 1, 'fallbacks in the history of the alert');
  return outcome('Alert, pager dead, falls back', ended);
}

export async function approval({ receivers, destinations, checks, say, ...stage }: Stage): Promise<Outcome> {
  const { delivery } = await request(stage, {
    to: [{ destinationId: destinations.secureEmail }],
    content: { data: hospital.phiReport() },
    approval: { approvers: ['admin'] },
  });
  await stage.watch.until(delivery.id, isHeldFor('approval'));
  checks.equal(receivers.mailsOf(delivery.id).length, 0, 'PHI reports sent before the approval');
  await stage.waybill.ask(
    'mutation ($id: ID!) { approveDelivery(id: $id, comment: "Reviewed by the privacy officer") { id } }',
    { id: delivery.id },
  );
  const ended = await stage.watch.until(delivery.id, hasEnded);
  say('PHI report: held until it was approved, then sent');

  checks.equal(receivers.mailsOf(delivery.id).length, 1, 'PHI reports sent after the approval');
  return outcome('PHI report, needs approval', ended);
}

/** One report as a file in three places, and the news of it in the hospital's own application. */
export async function yearlyAudit({ receivers, destinations, checks, say, ...stage }: Stage): Promise<Outcome> {
  const { registrySftp, auditFolder, auditorDownload } = destinations;
  const report = hospital.yearlyAudit();
  const { delivery } = await request(stage, {
    to: [
      { destinationId: registrySftp },
      { destinationId: auditFolder },
      { destinationId: auditorDownload },
      { channel: 'IN_APP', address: hospital.PRIVACY_OFFICER },
    ],
    content: {
      subject: 'The access audit is ready',
      text: 'It went to the registry, the folder and the auditor.',
      attachments: [{ filename: 'audit.pdf', contentType: 'application/pdf', base64: report.toString('base64') }],
    },
  });
  const ended = await stage.watch.until(delivery.id, hasEnded);
  const statuses = ended.legs.map(({ status }) => status).join();
  checks.equal(statuses, 'DELIVERED,DELIVERED,DELIVERED,DELIVERED', 'status of the audit, four ways');

  const uploaded = [...receivers.registry.files].filter(([path]) => path.includes(delivery.id));
  checks.equal(uploaded.length, 1, 'files at the registry');
  checks.that(uploaded[0]?.[1].bytes.equals(report) ?? false, 'the file at the registry is not the report');
  const folder = join(stage.waybill.dataDir, 'files', hospital.ORGANIZATION, 'audits', hospital.today().slice(0, 4));
  const [stored = 'none'] = (await readdir(folder)).filter((name) => name.includes(delivery.id));
  checks.that((await readFile(join(folder, stored))).equals(report), 'the file in the folder is not the report');

  const url = await downloadUrl(stage.waybill, delivery.id);
  const fetched = await download(url, hospital.DOWNLOAD_PASSWORD);
  checks.that(fetched.bytes?.equals(report) ?? false, `the download answered ${fetched.status}, not the report`);
  checks.equal((await download(url, 'a guess')).status, 401, 'answer to a wrong password');
  checks.equal((await download(url, hospital.DOWNLOAD_PASSWORD)).status, 410, 'answer when the one use is spent');

  const [message, ...more] = await inboxOf(stage.waybill, hospital.PRIVACY_OFFICER);
  checks.equal(message?.title, 'The access audit is ready', 'title in the inbox of the privacy officer');
  checks.equal(more.length, 0, 'other messages in this inbox');
  say('access audit: uploaded to the registry, stored in the folder, downloaded once, and in an inbox');
  return outcome('Access audit, file and in-app', ended);
}

async function download(url: string, password: string): Promise<{ status: number; bytes?: Buffer }> {
  const login = Buffer.from(`auditor:${password}`).toString('base64');
  const response = await fetch(url, { headers: { authorization: `Basic ${login}` } });
  const bytes = Buffer.from(await response.arrayBuffer());
  return { status: response.status, ...(response.ok && { bytes }) };
}

/** Requests it and returns at once; the promise inside is for its end, some seconds later. */
export async function scheduled({ receivers, destinations, checks, say, ...stage }: Stage) {
  const scheduledAt = new Date(Date.now() + SCHEDULE_AHEAD_MS);
  const { delivery } = await request(stage, {
    to: [{ destinationId: destinations.siemWebhook }],
    content: { data: hospital.shiftSummary() },
    scheduledAt: scheduledAt.toISOString(),
  });
  say(`shift summary: scheduled for ${scheduledAt.toISOString()}, ${SCHEDULE_AHEAD_MS / 1_000} s ahead`);

  const end = async (): Promise<Outcome> => {
    const ended = await stage.watch.until(delivery.id, hasEnded);
    const [webhook] = receivers.webhooksOf(delivery.id);
    const late = (webhook?.at.getTime() ?? Number.NaN) - scheduledAt.getTime();
    say(`shift summary: came ${late} ms after its time`);
    checks.that(late >= 0, `the shift summary came ${-late} ms before its time`);
    checks.that(late < 2_000, `the shift summary came ${late} ms after its time`);
    return outcome('Shift summary, scheduled', ended);
  };
  const promise = end();
  promise.catch(() => undefined); // whoever awaits it hears of it, and until then another scene may have failed
  return { end: promise };
}

export async function deadLetter({ receivers, destinations, checks, say, ...stage }: Stage): Promise<Outcome> {
  const { delivery } = await request(stage, {
    to: [{ destinationId: destinations.archiveWebhook }],
    content: { data: hospital.archiveExport() },
    priority: 'LOW',
  });
  await stage.watch.until(delivery.id, isDeadLettered);
  checks.equal((await deadLetters(stage.waybill)).join(), delivery.id, 'what the dead letters are');
  say('archive export: the archive is broken, so it became a dead letter');

  receivers.repairArchive();
  await stage.waybill.ask('mutation ($id: ID!) { retryDelivery(id: $id) { id } }', { id: delivery.id });
  const ended = await stage.watch.until(delivery.id, (now) => hasEnded(now) && !isDeadLettered(now));
  say('archive export: retried after the archive was repaired');

  checks.equal(ended.status, 'DELIVERED', 'status of the archive export');
  checks.equal(receivers.webhooksOf(delivery.id).length, 3, 'attempts that reached the archive');
  return outcome('Archive export, dead letter, retried', ended);
}

export async function bulk({ waybill, receivers, destinations, checks, say }: Stage): Promise<Outcome> {
  const inputs = Array.from({ length: BULK_SIZE }, (_, index) => ({
    organizationId: hospital.ORGANIZATION,
    to: [{ destinationId: destinations.siemWebhook }],
    content: { data: hospital.auditEvent(index + 1) },
    tags: [BULK_TAG],
  }));
  const startedAt = performance.now();
  const { requestDeliveries } = await waybill.ask<{ requestDeliveries: { delivery: { id: string } }[] }>(
    'mutation ($inputs: [RequestDeliveryInput!]!) { requestDeliveries(inputs: $inputs) { delivery { id } } }',
    { inputs },
  );
  const acceptedMs = Math.round(performance.now() - startedAt);
  await untilDelivered(waybill, BULK_TAG, requestDeliveries.length);
  const milliseconds = Math.round(performance.now() - startedAt);
  say(`audit events: ${BULK_SIZE} accepted after ${acceptedMs} ms, delivered after ${milliseconds} ms`);

  const ids = new Set(requestDeliveries.map(({ delivery }) => delivery.id));
  const came = receivers.webhooks.filter((webhook) => ids.has(deliveryIdOf(webhook)));
  checks.equal(ids.size, BULK_SIZE, 'deliveries made by one call');
  checks.equal(came.length, BULK_SIZE, 'audit events that came to the SIEM');
  return {
    name: `${BULK_SIZE} audit events`,
    channel: 'WEBHOOK',
    attempts: came.length,
    status: 'DELIVERED',
    milliseconds,
  };
}
