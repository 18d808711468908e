import { type Accepted, Deliveries, type SendOrders } from '../../src/commands/deliveries.js';
import type { RequestDeliveryInput } from '../../src/commands/delivery-input.js';
import { DestinationDirectory } from '../../src/commands/destination-directory.js';
import { type ChangedDestination, Destinations, type SendDestinationOrder } from '../../src/commands/destinations.js';
import { CommandExecutor, type Refused } from '../../src/commands/executor.js';
import { Intake } from '../../src/commands/intake.js';
import { delivery } from '../../src/domain/delivery.js';
import { destination } from '../../src/domain/destination.js';
import { retention } from '../../src/domain/retention.js';
import { EventCodec } from '../../src/event-store/codec.js';
import { EmbeddedLog } from '../../src/event-store/embedded-log.js';
import { Subjects } from '../../src/security/subjects.js';
import { ORGANIZATION } from './deliveries.js';
import { FakeCatalog } from './fake-catalog.js';
import { temporaryFolder } from './logs.js';

export const ada = { actor: 'ada', organizationId: ORGANIZATION };
export const OTHER_ORGANIZATION = 'b0000000-0000-4000-8000-00000000000b';
export const mallory = { actor: 'mallory', organizationId: OTHER_ORGANIZATION };
export const mayAccess = (organizationId: string): boolean => organizationId === ORGANIZATION;

export const toBilling: RequestDeliveryInput = {
  to: [{ channel: 'WEBHOOK', address: 'https://billing.example/hook' }],
  content: { data: { total: 42 } },
};

/** The command side as the application puts it together, on a log of its own and with channels that only pretend. */
export async function commandSide({ maxAttachmentBytes = 1_000 } = {}) {
  const folder = await temporaryFolder();
  const log = EmbeddedLog.open(folder.path);
  const codec = new EventCodec();
  const executor = new CommandExecutor(log, codec);
  const directory = new DestinationDirectory(executor);
  const catalog = new FakeCatalog();
  const defaults: string[] = [];
  const intake = new Intake({
    catalog,
    directory,
    reader: log,
    load: (id) => executor.load(delivery, id),
    defaults: async () => defaults,
    retention: async () => retention.initial,
    limits: { maxAttachmentBytes },
    subjects: new Subjects(Buffer.alloc(32, 1)),
  });
  /** Tests may put something before an order is carried out: others that are faster. */
  const before = { orders: async () => {}, destinationOrder: async () => {} };
  const sendOrders: SendOrders = async (orders) => {
    await before.orders();
    return executor.executeMany(delivery, orders);
  };
  const sendDestinationOrder: SendDestinationOrder = async (order) => {
    await before.destinationOrder();
    return executor.execute(destination, order);
  };
  return {
    folder: folder.path,
    log,
    codec,
    executor,
    directory,
    intake,
    defaults,
    before,
    deliveries: new Deliveries(intake, executor, sendOrders, { secondsUntilRoom: () => 0, now: () => new Date() }),
    destinations: new Destinations(catalog, executor, directory, sendDestinationOrder),
    async close() {
      await log.close();
      await folder.remove();
    },
  };
}
export type CommandSide = Awaited<ReturnType<typeof commandSide>>;

export function good<Result extends Accepted | ChangedDestination>(result: Result | Refused | undefined): Result {
  if (!result?.ok) throw new Error(`refused: ${JSON.stringify(result)}`);
  return result;
}

/** Why it was refused: the code, and where the problems are. */
export function refusal(result: { ok: boolean } | Refused | unknown[] | undefined) {
  if (!result || Array.isArray(result) || !('rejection' in result)) throw new Error('this was not refused');
  const { code, fields } = result.rejection;
  return { code, paths: fields?.map(({ path }) => path) ?? [] };
}
