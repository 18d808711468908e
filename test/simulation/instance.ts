import { Deliveries } from '../../src/commands/deliveries.js';
import { DestinationDirectory } from '../../src/commands/destination-directory.js';
import { Destinations } from '../../src/commands/destinations.js';
import { CommandExecutor } from '../../src/commands/executor.js';
import { type DeliveryOrder, Intake } from '../../src/commands/intake.js';
import { OrderCohort } from '../../src/commands/order-cohort.js';
import { RecordedHealth } from '../../src/commands/recorded-health.js';
import { SuspendedDeliveries } from '../../src/commands/suspended-deliveries.js';
import { delivery } from '../../src/domain/delivery.js';
import { destination } from '../../src/domain/destination.js';
import { retention } from '../../src/domain/retention.js';
import type { EventCodec } from '../../src/event-store/codec.js';
import { Engine, type EngineOptions, type EngineParts } from '../../src/sagas/engine.js';
import type { EngineLog } from '../../src/sagas/engine-log.js';
import { Targets } from '../../src/sagas/targets.js';
import { Subjects } from '../../src/security/subjects.js';
import { FakeCatalog } from '../support/fake-catalog.js';
import type { Link } from './network.js';
import { PROVIDERS, type Providers } from './providers.js';
import type { Random } from './random.js';
import type { Host, Scheduler } from './scheduler.js';
import { DatabaseClient, type DatabaseWatch, type SimulatedDatabase } from './simulated-database.js';
import { LogClient, type LogClientParts, type SimulatedLog } from './simulated-log.js';

export const ORGANIZATION = 'a0000000-0000-4000-8000-00000000000a';

/** A defect that a test plants. */
export interface PlantedBug {
  /** The engine's surroundings with the defect in between. */
  wire?(parts: EngineParts): EngineParts;
  /** Patches the product's classes; what it returns takes that back. */
  patch?(): () => void;
}

export interface InstanceParts {
  readonly scheduler: Scheduler;
  readonly host: Host;
  /** Its name in the database; the same after a restart. */
  readonly owner: string;
  readonly random: Random;
  readonly log: SimulatedLog;
  readonly database: SimulatedDatabase;
  readonly providers: Providers;
  readonly codec: EventCodec;
  readonly links: { readonly log: Link; readonly database: Link };
  readonly watch: Pick<LogClientParts, 'onSend' | 'onBatch'> & DatabaseWatch;
  readonly options: EngineOptions;
  readonly words: EngineLog;
  readonly bug: PlantedBug | undefined;
}

/** One run of an instance, put together as the application does it, on the simulated log, database and providers. */
export class Instance {
  readonly host: Host;
  readonly log: LogClient;
  readonly engine: Engine;
  readonly deliveries: Deliveries;
  readonly destinations: Destinations;
  readonly suspended: SuspendedDeliveries;
  readonly #directory: DestinationDirectory;
  readonly #following = new AbortController();
  readonly #head: bigint;

  /** To be made in a step of the host, whose clocks it reads. */
  constructor(parts: InstanceParts) {
    const { scheduler, host, owner, random, log, database, providers, codec, links, watch, bug } = parts;
    this.host = host;
    this.#head = log.head;
    this.log = new LogClient({ scheduler, log, link: links.log, ...watch });
    const executor = new CommandExecutor(this.log, codec);
    const directory = new DestinationDirectory(executor);
    this.#directory = directory;
    const catalog = new AnyAddress();
    const intake = new Intake({
      catalog,
      directory,
      reader: this.log,
      load: (id) => executor.load(delivery, id),
      defaults: async () => [],
      retention: async () => retention.initial,
      limits: { maxAttachmentBytes: 0 },
      subjects: new Subjects(Buffer.alloc(32, 1)),
    });
    this.destinations = new Destinations(catalog, executor, directory, (order) => executor.execute(destination, order));
    const orders = new OrderCohort((many: readonly DeliveryOrder[]) => executor.executeMany(delivery, many));
    const wired: EngineParts = {
      reader: this.log,
      codec,
      store: new DatabaseClient(scheduler, database, { link: links.database, owner, watch }),
      targets: new Targets(providers.adaptersFor(host, random), directory, PROVIDERS),
      order: (order) => orders.order(order),
      sides: { destinations: directory, providers: PROVIDERS, record: new RecordedHealth(executor, this.destinations) },
      disableDestination: (id, reason) => this.destinations.note(id, { type: 'DisableDestination', reason }),
      log: parts.words,
    };
    const list = {
      find: async (id: string) => database.suspensions().find((each) => each.id === id),
      list: async () => database.suspensions(),
      count: async () => database.suspensions().length,
    };
    this.suspended = new SuspendedDeliveries(list, this.log, codec);
    this.engine = new Engine(bug?.wire?.(wired) ?? wired, parts.options);
    this.deliveries = new Deliveries(intake, executor, (orders) => executor.executeMany(delivery, orders), {
      secondsUntilRoom: () => 0,
      now: () => this.engine.now(),
    });
  }

  start(): void {
    this.#directory.follow(this.log, this.#head, this.#following.signal);
    this.engine.start();
  }

  async shutDown(): Promise<void> {
    await this.engine.stop();
    this.#following.abort();
  }
}

class AnyAddress extends FakeCatalog {
  override addressProblem(): undefined {
    return undefined;
  }

  override providerProblem(): undefined {
    return undefined;
  }

  override recipients(): number {
    return 1;
  }
}
