/** `npm run bench:smtp`: mail per second, from the request to the server's acceptance in the read models. */
import { createTransport } from 'nodemailer';
import { startWaybill } from '../../test/support/waybill-process.js';
import { rounded } from '../clock.js';
import { type BenchReceiver, startReceiver } from '../receiver.js';
import { throughput } from '../throughput.js';
import { type Load, payload } from '../workload.js';
import { command, say } from './command.js';

/** As many as the adapter keeps to one server with one login (src/channels/email/smtp-connections.ts). */
const CONNECTIONS = 4;
const FROM = 'bench@sender.example';
const TO = 'bench@receiver.example';

await command({
  name: 'smtp',
  about: `Measures mail over SMTP: requests accepted over GraphQL, each sent over one of ${CONNECTIONS} kept connections to a server on this
machine, its outcome durable and visible. Beside it the same messages sent by nodemailer's own pool, with nothing stored.`,
  options: {
    deliveries: { default: 5_000, least: 1, most: 1_000_000, says: 'messages that are measured' },
    warmup: { default: 500, least: 1, most: 100_000, says: 'messages before anything is measured' },
    bulk: { default: 200, least: 1, most: 1_000, says: 'requests in one call' },
  },
  async run({ deliveries, warmup, bulk }, cleanUp) {
    const receiver = await cleanUp.opened(startReceiver('smtp-receiver-main.ts'), (open) => open.close());
    const waybill = await cleanUp.opened(startWaybill(), (running) => running.stop());
    say(`Waybill is ready at ${waybill.url}`);
    const load = async (organizationId: string): Promise<Load> => {
      await receiver.forget();
      const email = { service: 'smtp', host: '127.0.0.1', port: receiver.port, from: FROM, recipients: [TO] };
      const input = { organizationId, label: 'Bench', type: 'EMAIL', config: { email } };
      const { createDestination } = await waybill.ask<{ createDestination: { id: string } }>(
        'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }',
        { input },
      );
      return { ...{ waybill, receiver, organizationId, destinationId: createDestination.id }, settled: 'SENT' };
    };
    const pressure = { bulk, inFlight: 4, outstanding: 20_000, slowestPerSecond: 10 };
    await throughput(await load('bench-warm-up'), { ...pressure, deliveries: warmup });
    await bare(receiver, warmup);
    const before = await bare(receiver, deliveries);
    const { seconds } = await throughput(await load('bench-smtp'), { ...pressure, deliveries });
    const after = await bare(receiver, deliveries);
    const perSecond = Math.round(deliveries / seconds);
    const barePerSecond = Math.round((before + after) / 2);
    return [
      { key: 'deliveries', title: 'messages', value: deliveries },
      { key: 'seconds', title: 'all sent and visible after, s', value: rounded(seconds, 2) },
      { key: 'perSecond', title: 'messages per second', value: perSecond },
      {
        key: 'barePerSecond',
        title: "nodemailer's own pool, nothing stored, messages per second",
        value: barePerSecond,
      },
      { key: 'ratio', title: 'ratio', value: rounded(perSecond / barePerSecond, 2) },
    ];
  },
});

/** The same messages, by the same library and over as many connections. @returns messages per second */
async function bare(receiver: BenchReceiver, count: number): Promise<number> {
  await receiver.forget();
  const pool = createTransport({
    ...{ pool: true, host: '127.0.0.1', port: receiver.port, secure: false, ignoreTLS: true },
    ...{ maxConnections: CONNECTIONS, maxMessages: Number.POSITIVE_INFINITY },
  });
  const startedAt = performance.now();
  let next = 0;
  const sender = async () => {
    while (next < count) {
      const text = JSON.stringify(payload(next++), null, 2);
      await pool.sendMail({ from: FROM, to: TO, subject: 'Notification', text });
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS * 2 }, sender));
  pool.close();
  return count / ((performance.now() - startedAt) / 1_000);
}
