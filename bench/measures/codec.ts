/** `npm run bench:codec`: what sealing costs, of itself and as a share of a whole delivery. */
import { randomUUID } from 'node:crypto';
import { newId } from '../../src/commands/ids.js';
import { delivery } from '../../src/domain/delivery.js';
import type { DeliveryEvent, DeliveryRequested } from '../../src/domain/delivery-events.js';
import type { DeliveryState } from '../../src/domain/delivery-state.js';
import { keptSubject, STANDARD } from '../../src/domain/retention.js';
import { defaultRetryPolicy } from '../../src/domain/retry-policy.js';
import { EventCodec, subjectOfDestination, subjectsOf } from '../../src/event-store/codec.js';
import { decodeRecord, encodeRecord } from '../../src/event-store/embedded-record.js';
import type { NewEvent, RecordedEvent } from '../../src/event-store/event-store.js';
import { closedFields, SealedFields } from '../../src/event-store/sealed-fields.js';
import { MemoryKeys } from '../../test/support/keys.js';
import { startWaybill } from '../../test/support/waybill-process.js';
import { rounded } from '../clock.js';
import { cpuMicros } from '../process-stats.js';
import { startReceiver } from '../receiver.js';
import { throughput } from '../throughput.js';
import { payload, prepareLoad } from '../workload.js';
import { command, say } from './command.js';

const ORGANIZATION = 'bench';
/** The median counts: one that the garbage collector or another process fell into says nothing. */
const ROUNDS = 7;
const DESTINATION = randomUUID();
const NOW = new Date().toISOString();

interface Made {
  readonly streamId: string;
  readonly subject: string;
  readonly commandIds: readonly string[];
  readonly events: readonly DeliveryEvent[];
}

await command({
  name: 'codec',
  about: `Measures the event codec with the events of the bench's own deliveries (a request with 500 bytes of JSON, the attempt, the
outcome), sealing and not: CPU time of each step per delivery. Then runs deliveries and says what share of their CPU that is.`,
  options: {
    events: { default: 20_000, least: 100, most: 1_000_000, says: 'deliveries whose events each round goes through' },
    deliveries: {
      default: 20_000,
      least: 0,
      most: 1_000_000,
      says: 'deliveries that are run for the share; 0 leaves it out',
    },
  },
  async run({ events: count, deliveries }, cleanUp) {
    const keys = new MemoryKeys();
    const [sealing, plain, closed] = [
      new EventCodec(new SealedFields(keys)),
      new EventCodec(),
      new EventCodec(closedFields),
    ];
    const made = Array.from({ length: count }, (_, number) => deliveryOf(number));
    const sealed = made.map((each) => encoded(sealing, each));
    const [stored, open] = [sealed, made.map((each) => encoded(plain, each))].map((all) =>
      all.flatMap((events, index) => recorded(made[index] as Made, events)),
    ) as [RecordedEvent[], RecordedEvent[]];
    const warm = sealed.flatMap((events, index) => remembered(made[index] as Made, events));
    const decode = (codec: EventCodec, events: readonly RecordedEvent[]) => () => {
      for (const event of events) codec.decode(event);
    };
    const encode = (codec: EventCodec) => () => {
      for (const each of made) encoded(codec, each);
    };
    const micros = (work: () => void) => rounded(median(work) / count, 2);
    const seal = rounded(Math.max(0, micros(encode(sealing)) - micros(encode(plain))), 2);
    const decodePlain = micros(decode(plain, open));
    const over = (codec: EventCodec, events: readonly RecordedEvent[]) =>
      rounded(Math.max(0, micros(decode(codec, events)) - decodePlain), 2);
    const [own, cold, outline] = [over(sealing, warm), over(sealing, stored), over(closed, stored)];
    const figures = [
      { key: 'sealMicros', title: 'sealing, µs of CPU per delivery', value: seal },
      { key: 'openOwnMicros', title: 'opening what was sealed here (the engine), µs', value: own },
      { key: 'openMicros', title: 'opening what another process sealed, or after a restart, µs', value: cold },
      { key: 'closedMicros', title: 'passing on closed (read models, in a thread of their own), µs', value: outline },
      { key: 'encodeMicros', title: 'encoding without sealing, µs', value: micros(encode(plain)) },
      { key: 'decodeMicros', title: 'decoding without opening, µs', value: decodePlain },
    ];
    if (deliveries === 0) return figures;
    const { perSecond, cpu } = await delivered(deliveries, cleanUp);
    const share = seal + own + outline;
    return [
      ...figures,
      { key: 'perSecond', title: 'deliveries per second, sealed as always', value: perSecond },
      { key: 'cpuMicrosPerDelivery', title: 'CPU of Waybill per delivery, µs', value: cpu },
      {
        key: 'sharePercent',
        title: 'of which sealing, opening and passing on, %',
        value: rounded((share / cpu) * 100, 1),
      },
      {
        key: 'perSecondWithout',
        title: 'deliveries per second if that cost nothing (reckoned by CPU, not measured)',
        value: Math.round(perSecond / (1 - share / cpu)),
      },
    ];
  },
});

/** The events of one delivery to the bench's destination, as the domain decides them. */
function deliveryOf(number: number): Made {
  const [id, now] = [randomUUID(), new Date().toISOString()];
  const destinationId = DESTINATION;
  const request: DeliveryRequested['data'] = {
    organizationId: ORGANIZATION,
    subject: keptSubject(subjectOfDestination(destinationId), STANDARD, new Date()),
    priority: 'NORMAL',
    legs: [{ leg: 1, routes: [{ channel: 'WEBHOOK', destinationId }], recipients: 1 }],
    content: { data: payload(number) },
    tags: [],
  };
  const attempt = { leg: 1, number: 1, route: 0, channel: 'WEBHOOK', provider: 'webhook', startedAt: now } as const;
  const outcome = { kind: 'accepted', delivered: true } as const;
  let state: DeliveryState = delivery.initial;
  const events: DeliveryEvent[] = [];
  for (const order of [
    { type: 'RequestDelivery', id, now, request } as const,
    { type: 'RecordOutcome', now, attempt, outcome, policy: defaultRetryPolicy, random: 0 } as const,
  ]) {
    const decision = delivery.decide(order, state);
    if (!decision.ok) throw new Error(decision.rejection.message);
    state = decision.events.reduce(delivery.evolve, state);
    events.push(...decision.events);
  }
  const commandIds = events.map(() => newId());
  return { streamId: `delivery-${id}`, subject: request.subject as string, commandIds, events };
}

/** As the executor does it. */
function encoded(codec: EventCodec, { streamId, subject, commandIds, events }: Made): NewEvent[] {
  codec.prepare(subjectsOf(events, ORGANIZATION, subject));
  const owner = { streamId, subject };
  return events.map((event, index) => {
    const commandId = commandIds[index] as string;
    return codec.encode(event, commandId, { organizationId: ORGANIZATION, commandId, actor: 'bench' }, owner);
  });
}

/** Through the log: nothing is remembered. */
function recorded({ streamId }: Made, events: readonly NewEvent[]): RecordedEvent[] {
  return events.map((event, revision) => decodeRecord(revision + 1, encodeRecord(streamId, revision, event, NOW)));
}

/** As the writing process has them at hand. */
function remembered({ streamId }: Made, events: readonly NewEvent[]): RecordedEvent[] {
  return events.map(({ id, type, data, metadata }, revision) => {
    const position = BigInt(revision + 1);
    return { streamId, revision, position, id, type, data, metadata, created: NOW };
  });
}

/** CPU time of this process, in microseconds; other processes take none of it. */
function median(work: () => void): number {
  work();
  const rounds = Array.from({ length: ROUNDS }, () => {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    return user + system;
  });
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] as number;
}

async function delivered(deliveries: number, cleanUp: Parameters<Parameters<typeof command>[0]['run']>[1]) {
  const receiver = await cleanUp.opened(startReceiver(), (open) => open.close());
  const waybill = await cleanUp.opened(startWaybill({ eventStoreDb: false }), (running) => running.stop());
  const pressure = { bulk: 200, inFlight: 4, outstanding: 500 };
  say('warming up');
  await throughput(await prepareLoad(waybill, receiver, 'bench-warm-up'), {
    deliveries: Math.min(10_000, deliveries),
    ...pressure,
  });
  const load = await prepareLoad(waybill, receiver, 'bench-codec');
  const before = cpuMicros(waybill.pid);
  const { seconds } = await throughput(load, { deliveries, ...pressure });
  const after = cpuMicros(waybill.pid);
  if (before === undefined || after === undefined) throw new Error('CPU time of a process is known on Linux only');
  return { perSecond: Math.round(deliveries / seconds), cpu: Math.round((after - before) / deliveries) };
}
