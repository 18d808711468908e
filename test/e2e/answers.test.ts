import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SlackRecorder, startSlackRecorder } from '../support/peers/slack-recorder.js';
import { type SmtpPeer, startSmtpPeer } from '../support/peers/smtp.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/peers/webhook-receiver.js';
import { startWaybill, type WaybillProcess } from '../support/waybill-process.js';
import { client, ORGANIZATION, types } from './journeys.js';

/** What people answer where Waybill has reached them: a click in Slack, a link in a mail, and no forged one. */
const TOKEN = 'xoxb-0000000000-t0ken-of-the-app';
const SIGNING_SECRET = '8f742231b10e8888abcd99yyyzzz85a5';
const ADA = 'U024BE7LH';
const PUBLIC = 'https://waybill.example.com';

let waybill: WaybillProcess;
let slack: SlackRecorder;
let receiver: WebhookReceiver;
let smtp: SmtpPeer;
let api: ReturnType<typeof client>;
let destination: string;

beforeAll(async () => {
  [waybill, slack, receiver, smtp] = await Promise.all([
    startWaybill({ env: { WAYBILL_PUBLIC_URL: PUBLIC } }),
    startSlackRecorder(TOKEN),
    startWebhookReceiver(),
    startSmtpPeer(),
  ]);
  api = client(waybill);
  slack.respond = ({ path }) => (path.startsWith('/actions/') ? { body: 'ok' } : undefined);
  const config = {
    ...{ token: TOKEN, channel: 'C0123456789', endpoint: `${slack.origin}/api`, signingSecret: SIGNING_SECRET },
    approvals: { approvers: { [ADA]: 'admin' } },
  };
  destination = (await api.destination('SLACK', { slack: config })).id;
}, 180_000);
afterAll(async () => {
  await waybill?.stop();
  await Promise.all([slack?.close(), receiver?.close(), smtp?.close()]);
});

const held = (approvers = ['admin']) =>
  api.request({ to: [{ channel: 'WEBHOOK', address: receiver.url }], approval: { approvers } });
/** The message that asks for the approval of a delivery: its `ts`, once Slack and the read models have it. */
async function askedFor(deliveryId: string): Promise<string> {
  const index = () => slack.posted.findIndex((message) => JSON.stringify(message.blocks ?? '').includes(deliveryId));
  await expect.poll(index, { timeout: 30_000 }).toBeGreaterThanOrEqual(0);
  const ts = slack.times[index()] as string;
  const known = `{ deliveries(filter: { organizationId: "${ORGANIZATION}", channel: SLACK, status: [SENT] }) { edges { node { attempts { providerMessageId } } } } }`;
  const found = async () => JSON.stringify(await waybill.ask(known));
  await expect.poll(found, { timeout: 30_000 }).toContain(ts);
  return ts;
}
async function click(ts: string, action: string, { user = ADA, secret = SIGNING_SECRET, ageSeconds = 0 } = {}) {
  const payload = {
    type: 'block_actions',
    user: { id: user },
    container: { type: 'message', message_ts: ts, channel_id: 'C0123456789' },
    actions: [{ type: 'button', action_id: `waybill_${action}`, value: 'not to be trusted' }],
    response_url: `${slack.origin}/actions/1`,
  };
  const body = new URLSearchParams({ payload: JSON.stringify(payload) }).toString();
  const seconds = Math.floor(Date.now() / 1_000) - ageSeconds;
  const signature = `v0=${createHmac('sha256', secret).update(`v0:${seconds}:${body}`).digest('hex')}`;
  const { status } = await fetch(`${waybill.url}/callbacks/slack/${destination}`, {
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      ...{ 'x-slack-request-timestamp': String(seconds), 'x-slack-signature': signature },
    },
  });
  return status;
}
const told = () => slack.received.filter(({ path }) => path.startsWith('/actions/')).map(({ raw }) => JSON.parse(raw));

describe('a delivery that waits for approval', () => {
  it('is approved by a click of whom the destination calls an approver', async () => {
    const { id } = await held();
    expect(await click(await askedFor(id), 'approve')).toBe(200);
    const delivered = await api.until(id, 'DELIVERED', 30_000);
    expect(delivered.history.find(({ type }) => type === 'ApprovalGranted')?.data).toMatchObject({
      approver: 'admin',
      comment: 'by a button in slack',
    });
    expect(told().at(-1)).toEqual({ replace_original: true, text: `Approved by <@${ADA}>` });
  }, 90_000);

  it('is rejected by one', async () => {
    const { id } = await held();
    expect(await click(await askedFor(id), 'reject')).toBe(200);
    await api.until(id, 'REJECTED', 30_000);
  }, 90_000);

  it('is decided by nobody else: no forged, old or unknown click, and no look-alike of the message', async () => {
    const { id } = await held();
    const ts = await askedFor(id);
    expect(await click(ts, 'approve', { secret: 'another' })).toBe(403);
    expect(await click(ts, 'approve', { ageSeconds: 301 })).toBe(403);
    expect(await click(ts, 'approve', { user: 'U0000STRANGER' })).toBe(200);
    expect(told().at(-1)).toMatchObject({ replace_original: false, text: expect.stringContaining('no approver') });
    const fake = {
      text: 'Win a prize',
      data: { approval: { deliveryId: id, minimum: 1, approvers: 1, channels: [] } },
    };
    const lure = await api.request({ to: [{ destinationId: destination }], content: fake });
    await api.until(lure.id, 'SENT', 30_000);
    const lured = (await api.delivery(lure.id)).attempts[0]?.providerMessageId as string;
    expect(await click(lured, 'approve')).toBe(200);
    expect(told().at(-1)).toMatchObject({ text: expect.stringContaining('asked for no approval') });
    // One whom the destination names, but the delivery does not.
    const other = await held(['somebody-else']);
    expect(await click(await askedFor(other.id), 'approve')).toBe(200);
    expect(told().at(-1)).toMatchObject({ text: expect.stringContaining('only a named approver') });
    for (const each of [id, other.id]) expect(types(await api.delivery(each))).toEqual(['DeliveryRequested']);
    expect(waybill.output()).toContain('the signature is wrong');
  }, 120_000);
});

describe('mail with links of its own', () => {
  const html =
    '<p>Dear Ada,</p><a href="https://hospital.example/r?a=1&amp;b=2">the report</a> <a href="mailto:x@y.z">write</a>';
  const byMail = async (...recipients: string[]) => {
    const tracking = { opens: true, clicks: true, unsubscribe: true };
    const email = { service: 'smtp', host: smtp.host, port: smtp.port, from: 'a@sender.example', recipients, tracking };
    const { id } = await api.destination('EMAIL', { email });
    const requested = await api.request({ to: [{ destinationId: id }], content: { subject: 's', html } });
    const isThere = () => smtp.received.find(({ raw }) => raw.includes(requested.id));
    await expect.poll(isThere, { timeout: 30_000 }).toBeDefined();
    const { mail } = isThere() as NonNullable<ReturnType<typeof isThere>>;
    return { id: requested.id, destinationId: id, mail, html: String(mail.html) };
  };
  const local = (url: string) => waybill.url + url.slice(PUBLIC.length);
  const visit = (url: string, method = 'GET') => fetch(local(url), { method, redirect: 'manual' });
  const linkIn = (text: string, kind: string) =>
    new RegExp(`${PUBLIC}/t/${kind}/[^"]+`).exec(text)?.[0].replaceAll('&amp;', '&') as string;
  const happened = async (id: string) =>
    types(await api.delivery(id)).filter((type) => /Opened|Clicked|OptedOut/.test(type));

  it('tells of opening and clicking, and leads nowhere else', async () => {
    const { id, html: text } = await byMail('grace@example.com');
    expect(text).toContain('href="mailto:x@y.z"');
    const picture = await visit(linkIn(text, 'open'));
    expect([picture.status, picture.headers.get('content-type')]).toEqual([200, 'image/gif']);
    const link = linkIn(text, 'click');
    const clicked = await visit(link);
    expect([clicked.status, clicked.headers.get('location')]).toEqual([302, 'https://hospital.example/r?a=1&b=2']);
    await expect.poll(() => happened(id), { timeout: 30_000 }).toEqual(['Opened', 'Clicked']);
    const elsewhere = link.replace(/to=.*/, `to=${encodeURIComponent('https://evil.example/')}`);
    const { id: other } = await byMail('edsger@example.com');
    const forged = [
      elsewhere,
      link.replace(id, other),
      link.replace('/click/', '/open/'),
      linkIn(text, 'open').replace(/.$/, '_'),
      `${PUBLIC}/t/open/x/y`,
      `${PUBLIC}/t/click/${id}_1/${'A'.repeat(22)}`,
    ];
    for (const url of forged) expect((await visit(url)).status, url).toBe(404);
    expect((await visit(linkIn(text, 'open'), 'HEAD')).status).toBe(404);
    expect(await happened(id)).toEqual(['Opened', 'Clicked']);
    expect(await happened(other)).toEqual([]);
  }, 120_000);

  it('has a way out: looking changes nothing, one click ends it', async () => {
    const { id, destinationId, mail } = await byMail('ada@example.com');
    const header = (name: string) => mail.headerLines.find(({ key }) => key === name)?.line.replace(/\s+/g, '') ?? '';
    expect(header('list-unsubscribe-post')).toContain('List-Unsubscribe=One-Click');
    const url = /<(.*)>/.exec(header('list-unsubscribe'))?.[1] as string;
    expect(url).not.toMatch(/ada(@|%40)/);
    const page = await visit(url);
    expect(await page.text()).toContain('<form method="post">');
    expect(page.headers.get('content-security-policy')).toContain("form-action 'self'");
    expect((await visit(url.replace(/.$/, '_'))).status).toBe(404);
    expect((await visit(url.replace(/.$/, '_'), 'POST')).status).toBe(404);
    expect(await happened(id)).toEqual([]);
    // RFC 8058, 3.2: the body that mail programs send.
    const oneClick = { method: 'POST', body: new URLSearchParams({ 'List-Unsubscribe': 'One-Click' }) };
    expect((await fetch(local(url), oneClick)).status).toBe(200);
    expect((await fetch(local(url), oneClick)).status).toBe(200);
    await expect.poll(() => happened(id), { timeout: 30_000 }).toEqual(['OptedOut']);
    const again = await api.request({ to: [{ destinationId }] });
    const failed = await api.until(again.id, 'FAILED', 30_000);
    expect(failed.legs[0]?.failure).toMatchObject({ code: 'SUPPRESSED' });
  }, 120_000);

  it('has none where several persons get the same message', async () => {
    const { mail } = await byMail('one@example.com', 'two@example.com');
    expect(mail.headerLines.map(({ key }) => key)).not.toContain('list-unsubscribe');
  }, 60_000);
});
