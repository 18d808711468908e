import { randomUUID } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { client, ORGANIZATION, types } from '../e2e/journeys.js';
import { startSmtpPeer } from '../support/peers/smtp.js';
import { startTwilioRecorder } from '../support/peers/twilio-recorder.js';
import { startWebhookReceiver } from '../support/peers/webhook-receiver.js';
import { removeDataDir, startWaybill, type WaybillProcess } from '../support/waybill-process.js';

/**
 * FAULTS.md, row 2: the process dies after the provider has had the call and before the outcome is recorded. What
 * protects the receiver is the channel's own idempotency; where it has none, the attempt is in doubt, and shown so.
 */
const dataDir = await mkdtemp(join(tmpdir(), 'waybill-in-doubt-'));
let waybill: WaybillProcess | undefined;

const IN_DOUBT = `query ($organizationId: ID, $after: String) {
  attemptsInDoubt(organizationId: $organizationId, after: $after) {
    totalCount edges { cursor node { id deliveryId organizationId number status } }
  }
}`;
const HELD_IN_DOUBT = { organizationId: ORGANIZATION, status: 'IN_DOUBT' };
interface InDoubt {
  readonly totalCount: number;
  readonly edges: readonly { readonly cursor: string; readonly node: { readonly deliveryId: string } }[];
}

afterAll(async () => {
  await waybill?.stop();
  await removeDataDir(dataDir);
});

test('kill -9 between the call and its outcome', { timeout: 90_000 }, async () => {
  const [receiver, smtp, twilio] = await Promise.all([startWebhookReceiver(), startSmtpPeer(), startTwilioRecorder()]);
  let mails = 0;
  smtp.onMessage = () => {
    mails++;
    return 'silence';
  };
  receiver.respond = () => 'silence';
  // One text message it takes, although nobody hears of it; of the others it does not hear itself.
  twilio.respond = (request) => {
    if (request.raw.includes('taken')) twilio.answer(request);
    return 'silence';
  };

  waybill = await startWaybill({ dataDir });
  let api = client(waybill);
  const from = 'audit@hospital.com';
  const email = await api.destination('EMAIL', {
    email: { service: 'smtp', host: smtp.host, port: smtp.port, from, recipients: ['a@b.example'] },
  });
  const { accountSid, authToken, url: endpoint } = twilio;
  const account = { service: 'twilio', accountSid, authToken, from: '+15005550006', endpoint };
  const sms = await api.destination('SMS', { sms: { ...account, to: '+14155552671' } });
  const elsewhere = await api.destination('SMS', { sms: { ...account, to: '+14155552672' } });
  const to = [{ destinationId: email.id }];
  const mailed = await api.request({ to });
  const taken = await api.request({ to: [{ destinationId: sms.id }], content: { text: 'taken' } });
  const texted = await api.request({ to: [{ destinationId: elsewhere.id }], content: { text: 'lost' } });
  const puzzling = await api.request({ to: [{ destinationId: elsewhere.id }], content: { text: 'who knows' } });
  const posted = await api.request({ to: [{ channel: 'WEBHOOK', address: receiver.url }] });
  await expect
    .poll(() => [mails, twilio.requests.length, receiver.received.length], { timeout: 10_000, interval: 10 })
    .toEqual([1, 3, 1]);
  await waybill.kill();

  smtp.onMessage = () => undefined;
  receiver.respond = () => ({ status: 204 });
  // Of one recipient it cannot say at first what it has sent.
  let isPuzzled = true;
  twilio.respond = ({ method, path }) =>
    isPuzzled && method === 'GET' && path.includes('2672') ? { status: 500 } : undefined;
  waybill = await startWaybill({ dataDir });
  api = client(waybill);

  // The receiver of a webhook knows it by its id: sent again, seen as one.
  const delivered = await api.until(posted.id, 'DELIVERED');
  expect(receiver.received.map(({ headers }) => headers['webhook-id'])).toEqual([`${posted.id}_1`, `${posted.id}_1`]);
  expect(delivered.attempts).toMatchObject([{ number: 1, status: 'SUCCEEDED' }]);

  // An e-mail that comes twice is better than one that does not come: sent again, and the doubt is on record.
  const sent = await api.until(mailed.id, 'SENT');
  expect(sent.attempts.map(({ status }) => status)).toEqual(['IN_DOUBT', 'SUCCEEDED']);
  expect(types(sent)).toEqual([
    'DeliveryRequested',
    'AttemptStarted',
    'AttemptInDoubt',
    'AttemptStarted',
    'AttemptSucceeded',
  ]);

  // Twilio has it in its records: it was sent, and is not sent again.
  const found = await api.until(taken.id, 'SENT');
  const providerMessageId = twilio.received.find(({ Body }) => Body === 'taken')?.sid;
  expect(found.attempts).toMatchObject([{ number: 1, status: 'SUCCEEDED', providerMessageId }]);

  // A text message costs money and sleep: where Twilio does not say, a person decides.
  const doubtful = async () => {
    const { attemptsInDoubt } = await (waybill as WaybillProcess).ask<{ attemptsInDoubt: InDoubt }>(IN_DOUBT);
    return attemptsInDoubt;
  };
  await expect.poll(async () => (await doubtful()).totalCount, { timeout: 20_000, interval: 50 }).toBe(2);
  const held = await api.until(texted.id, 'HELD');
  expect(held.holds).toMatchObject([{ reason: 'doubt' }]);
  expect(held.attempts.map(({ status }) => status)).toEqual(['IN_DOUBT']);
  expect(held.history.at(-1)).toMatchObject({
    type: 'AttemptInDoubt',
    data: { resolution: 'hold', lookup: 'unknown' },
  });
  expect(twilio.requests.filter(({ method }) => method === 'POST')).toHaveLength(3);
  isPuzzled = false;

  const listed = await doubtful();
  const inDoubt = (id: string) => ({ ...{ id: `${id}-1-1`, deliveryId: id, number: 1 }, ...HELD_IN_DOUBT });
  const nodes = listed.edges.map(({ node }) => node);
  expect(new Set(nodes)).toEqual(new Set([inDoubt(texted.id), inDoubt(puzzling.id)]));
  const page = await waybill.ask<{ attemptsInDoubt: InDoubt }>(IN_DOUBT, { after: listed.edges[0]?.cursor });
  expect(page.attemptsInDoubt.edges.map(({ node }) => node)).toEqual(nodes.slice(1));
  const others = await waybill.ask<{ attemptsInDoubt: InDoubt }>(IN_DOUBT, { organizationId: 'somebody-else' });
  expect(others.attemptsInDoubt.totalCount).toBe(0);

  // It was not sent: it is made again.
  const resolve = (id: string, outcome: string) =>
    `mutation { resolveAttempt(id: "${id}", outcome: ${outcome}, note: "asked them") { id status } }`;
  await waybill.ask(resolve(`${texted.id}-1-1`, 'NOT_SENT'));
  const again = await api.until(texted.id, 'SENT');
  expect(again.attempts.map(({ status, error }) => [status, error?.code])).toEqual([
    ['FAILED', 'NOT_SENT'],
    ['SUCCEEDED', undefined],
  ]);
  expect(again.history).toContainEqual(
    expect.objectContaining({
      type: 'AttemptResolved',
      data: expect.objectContaining({ outcome: 'not-sent', by: 'admin', note: 'asked them' }),
    }),
  );

  // It was sent; once said, that stands.
  expect(await waybill.ask(resolve(`${puzzling.id}-1-1`, 'SENT'))).toMatchObject({
    resolveAttempt: { status: 'SENT' },
  });
  await waybill.ask(resolve(`${puzzling.id}-1-1`, 'SENT'));
  const [refused] = await api.refusal(resolve(`${puzzling.id}-1-1`, 'NOT_SENT'));
  expect(refused).toEqual({ code: 'CONFLICT', paths: [] });
  for (const unknown of [`${puzzling.id}-1-2`, `${puzzling.id}-2-1`, `${randomUUID()}-1-1`, 'x'])
    expect(await api.refusal(resolve(unknown, 'SENT'))).toEqual([{ code: 'NOT_FOUND', paths: [] }]);
  const settled = await api.until(puzzling.id, 'SENT');
  expect(settled.attempts).toMatchObject([{ status: 'SUCCEEDED', completedAt: expect.any(String) }]);
  expect((await doubtful()).totalCount).toBe(0);
  expect(twilio.requests.filter(({ method }) => method === 'POST')).toHaveLength(4);

  await Promise.all([receiver.close(), smtp.close(), twilio.close()]);
});
