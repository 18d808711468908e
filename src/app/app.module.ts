import { type DynamicModule, Module } from '@nestjs/common';
import { CommandBus, CqrsModule } from '@nestjs/cqrs';
import type { Logger } from 'pino';
import { Audit } from '../audit/audit.js';
import { Access } from '../commands/access.js';
import { AccessDirectory } from '../commands/access-directory.js';
import { ApprovalAnswers } from '../commands/approval-answers.js';
import { DataSubjects } from '../commands/data-subjects.js';
import { Deliveries } from '../commands/deliveries.js';
import { DestinationDirectory } from '../commands/destination-directory.js';
import { Destinations } from '../commands/destinations.js';
import { Downloads } from '../commands/downloads.js';
import { CommandExecutor } from '../commands/executor.js';
import { InboxReading } from '../commands/inbox-reading.js';
import { Inboxes } from '../commands/inboxes.js';
import { type DeliveryOrder, Intake } from '../commands/intake.js';
import { OrderCohort } from '../commands/order-cohort.js';
import {
  AccessOrder,
  AccessOrderHandler,
  DeliveryOrders,
  DeliveryOrdersHandler,
  DestinationOrder,
  DestinationOrderHandler,
} from '../commands/orders.js';
import { ProviderDirectory } from '../commands/provider-directory.js';
import { ProviderReports } from '../commands/provider-reports.js';
import { RecordedHealth } from '../commands/recorded-health.js';
import { Retention } from '../commands/retention.js';
import { RetentionPolicies } from '../commands/retention-policies.js';
import { Suppressions } from '../commands/suppressions.js';
import { SuspendedDeliveries } from '../commands/suspended-deliveries.js';
import { delivery } from '../domain/delivery.js';
import { EventCodec } from '../event-store/codec.js';
import { SealedFields, SealedTokens } from '../event-store/sealed-fields.js';
import { AccessResolver } from '../graphql/access.resolver.js';
import { AuditResolver } from '../graphql/audit.resolver.js';
import { Authentication } from '../graphql/authentication.js';
import { ConnectionTester } from '../graphql/connection-tester.js';
import { DataSubjectResolver } from '../graphql/data-subject.resolver.js';
import { DeliveryResolver } from '../graphql/delivery.resolver.js';
import { DeliveryPresenter } from '../graphql/delivery-presenter.js';
import { DestinationResolver } from '../graphql/destination.resolver.js';
import { DownloadResolver, PublicUrl } from '../graphql/download.resolver.js';
import { InboxResolver } from '../graphql/inbox.resolver.js';
import { InboxLive } from '../graphql/inbox-live.js';
import { InboxReads } from '../graphql/inbox-reads.js';
import { InsightResolver } from '../graphql/insight.resolver.js';
import { LiveSockets } from '../graphql/live-sockets.js';
import { OperationsResolver } from '../graphql/operations.resolver.js';
import { PerformanceResolver } from '../graphql/performance.resolver.js';
import { ProviderResolver } from '../graphql/provider.resolver.js';
import { ReadModels } from '../graphql/read-models.js';
import { RetentionResolver } from '../graphql/retention.resolver.js';
import { DateTimeScalar, JsonScalar, PositionScalar } from '../graphql/scalars.js';
import { SealedRows } from '../graphql/sealed-rows.js';
import { SuppressionResolver } from '../graphql/suppression.resolver.js';
import { HealthController } from '../http/health.controller.js';
import { Readiness } from '../http/readiness.js';
import { InboxPresence } from '../projections/inbox-presence.js';
import type { SendOrder } from '../sagas/decisions.js';
import { Engine } from '../sagas/engine.js';
import { EngineStore } from '../sagas/engine-store.js';
import { StatusWebhookStore } from '../sagas/status-webhook-store.js';
import { StatusWebhooks } from '../sagas/status-webhooks.js';
import { SuspensionQueries } from '../sagas/suspension-store.js';
import { type ConfiguredProvider, Targets } from '../sagas/targets.js';
import { DownloadLinks } from '../security/download-links.js';
import { InboxTokens } from '../security/inbox-tokens.js';
import { PluggedChannels } from './channel-catalog.js';
import { authenticationOf, graphql } from './graphql.js';
import type { Infrastructure } from './infrastructure.js';
import { readiness } from './readiness.js';

/** Where every part is made and handed to those that need it: the picture of DESIGN.md in one file. */
@Module({})
export class AppModule {
  static of(infrastructure: Infrastructure): DynamicModule {
    const { config, store, keys, pool, channels, reads, logger } = infrastructure;
    const codec = new EventCodec(new SealedFields(keys.dataKeys, infrastructure.contents));
    const executor = new CommandExecutor(store, codec);
    const directory = new DestinationDirectory(executor);
    const accesses = new AccessDirectory(executor, store);
    const policies = new RetentionPolicies(executor);
    const sockets = new LiveSockets();
    const providers = config.providers as readonly ConfiguredProvider[];
    const catalog = new PluggedChannels(channels.registry, providers);
    const presenter = new DeliveryPresenter(store, codec, (organizationId) => policies.find(organizationId));
    const rows = new SealedRows(new SealedTokens(keys.dataKeys));
    const logHead = { head: () => store.head(), atStart: infrastructure.headAtStart };
    const { readYourWritesTimeoutMs } = config.projections;
    const readModels = new ReadModels(reads, rows, presenter, logHead, readYourWritesTimeoutMs);
    const presence = new InboxPresence(pool, infrastructure.instanceId);
    const inboxLive = new InboxLive(presence);
    const inboxTokens = new InboxTokens(keys.derived('inbox tokens'));
    const authentication = authenticationOf(infrastructure, accesses, sockets, inboxTokens);
    const suppressions = new Suppressions(executor, keys.subjects, (channel, address) =>
      catalog.addressProblem(channel, address),
    );
    const suppressed: Suppressions['among'] = (...query) => suppressions.among(...query);
    const intake = new Intake({
      suppressed,
      catalog,
      directory,
      reader: store,
      load: (id) => executor.load(delivery, id),
      retention: (organizationId) => policies.find(organizationId),
      limits: config.limits,
      subjects: keys.subjects,
      defaults: (organizationId) => readModels.defaultDestinations(organizationId),
    });

    return {
      module: AppModule,
      imports: [CqrsModule.forRoot(), graphql(infrastructure, authentication)],
      controllers: [HealthController],
      providers: [
        { provide: CommandExecutor, useValue: executor },
        { provide: DestinationDirectory, useValue: directory },
        { provide: AccessDirectory, useValue: accesses },
        { provide: RetentionPolicies, useValue: policies },
        { provide: LiveSockets, useValue: sockets },
        { provide: Authentication, useValue: authentication },
        { provide: DeliveryPresenter, useValue: presenter },
        { provide: ReadModels, useValue: readModels },
        { provide: Suppressions, useValue: suppressions },
        {
          provide: ProviderReports,
          inject: [Deliveries],
          useFactory: (deliveries: Deliveries) =>
            new ProviderReports({
              deliveries,
              suppressions,
              findMessage: (id, source) => reads.attempts.byProviderMessage(id, source),
            }),
        },
        { provide: Inboxes, useValue: infrastructure.inboxes },
        {
          provide: InboxReading,
          inject: [Inboxes, Deliveries],
          useFactory: (inboxes: Inboxes, deliveries: Deliveries) =>
            new InboxReading({ inboxes, deliveries, load: (id) => executor.load(delivery, id) }),
        },
        { provide: InboxPresence, useValue: presence },
        { provide: InboxLive, useValue: inboxLive },
        { provide: InboxTokens, useValue: inboxTokens },
        { provide: Downloads, useValue: infrastructure.downloads },
        { provide: DownloadLinks, useValue: infrastructure.downloadLinks },
        { provide: PublicUrl, useValue: new PublicUrl(config.publicUrl ?? '') },
        {
          provide: InboxReads,
          useValue: new InboxReads(reads, rows, inboxLive, logHead, readYourWritesTimeoutMs),
        },
        {
          provide: ApprovalAnswers,
          inject: [Deliveries],
          useFactory: (deliveries: Deliveries) =>
            new ApprovalAnswers({
              ...{ deliveries, reader: store, load: (id) => executor.load(delivery, id) },
              findMessage: (id, source) => reads.attempts.byProviderMessage(id, source),
            }),
        },
        {
          provide: ConnectionTester,
          inject: [Destinations],
          useFactory: (destinations: Destinations) =>
            new ConnectionTester(directory, channels.registry, async (id) => {
              if (config.enableAfterTest) await destinations.note(id, { type: 'EnableDestination' });
            }),
        },
        {
          provide: SuspendedDeliveries,
          useValue: new SuspendedDeliveries(new SuspensionQueries(pool), store, codec),
        },
        DeliveryOrdersHandler,
        DestinationOrderHandler,
        AccessOrderHandler,
        {
          provide: Access,
          inject: [CommandBus],
          useFactory: (bus: CommandBus) => new Access(accesses, (order) => bus.execute(new AccessOrder(order))),
        },
        {
          provide: Deliveries,
          inject: [CommandBus, Engine],
          useFactory: (bus: CommandBus, engine: Engine) =>
            new Deliveries(intake, executor, (orders) => bus.execute(new DeliveryOrders(orders)), {
              secondsUntilRoom: (organizationId) => engine.secondsUntilRoom(config.engine.maxUnderWay, organizationId),
              now: () => engine.now(),
            }),
        },
        {
          provide: Destinations,
          inject: [CommandBus],
          useFactory: (bus: CommandBus) =>
            new Destinations(catalog, executor, directory, (order) => bus.execute(new DestinationOrder(order))),
        },
        {
          provide: Engine,
          inject: [CommandBus, Destinations, RecordedHealth],
          useFactory: (bus: CommandBus, destinations: Destinations, record: RecordedHealth) =>
            new Engine(
              {
                reader: store,
                codec,
                store: new EngineStore(pool, infrastructure.instanceId),
                targets: new Targets(channels.registry, directory, providers),
                sides: { destinations: directory, providers, record },
                order: inCohorts(bus),
                disableDestination: (id, reason) => destinations.note(id, { type: 'DisableDestination', reason }),
                log: engineLog(logger),
                suppressed,
                suppress: async (addressee, { deliveryId, provider, code }) => {
                  const cause = { reason: 'BOUNCE', by: `provider:${provider}`, happenedAt: new Date() } as const;
                  await suppressions.suppress(addressee, { ...cause, deliveryId, note: code });
                },
              },
              {
                ...config.engine,
                isAlone: infrastructure.isAlone,
                ...(config.region !== undefined && { region: config.region }),
                ...(config.publicUrl !== undefined && { publicUrl: config.publicUrl }),
              },
            ),
        },
        {
          provide: StatusWebhooks,
          inject: [Deliveries],
          useFactory: (deliveries: Deliveries) =>
            new StatusWebhooks({
              ...{ reader: store, codec, directory, log: engineLog(logger) },
              store: new StatusWebhookStore(pool, infrastructure.instanceId),
              request: async (input, requester) => {
                const answer = await deliveries.announce({ input, requester });
                return answer.ok ? undefined : answer.rejection.message;
              },
            }),
        },
        {
          provide: RecordedHealth,
          inject: [Destinations],
          useFactory: (destinations: Destinations) => new RecordedHealth(executor, destinations),
        },
        {
          provide: ProviderDirectory,
          inject: [RecordedHealth],
          useFactory: (health: RecordedHealth) => new ProviderDirectory(providers, health),
        },
        { provide: Readiness, inject: [Engine], useFactory: (engine: Engine) => readiness(infrastructure, engine) },
        { provide: Audit, useValue: infrastructure.audit },
        {
          provide: DataSubjects,
          inject: [Deliveries],
          useFactory: (deliveries: Deliveries) =>
            new DataSubjects({
              executor,
              subjects: keys.subjects,
              addressProblem: (channel, address) => catalog.addressProblem(channel, address),
              keysOf: (subject) => keys.table.ofPerson(subject),
              destroy: infrastructure.forget,
              openDeliveries: (subject, organizationId) => readModels.openDeliveriesOf(subject, organizationId),
              cancel: (id, requester) => deliveries.cancelErased(id, requester),
            }),
        },
        {
          provide: Retention,
          useValue: new Retention({
            executor,
            policies,
            organizations: () => keys.table.organizationsKept(),
            keysBefore: (scope, after, limit) => keys.table.keptBefore(scope, after, limit),
            openBefore: (organizationId, before, limit) => reads.deliveries.openBefore(organizationId, before, limit),
            destroy: infrastructure.forget,
          }),
        },
        DataSubjectResolver,
        RetentionResolver,
        DeliveryResolver,
        AuditResolver,
        DestinationResolver,
        InboxResolver,
        DownloadResolver,
        InsightResolver,
        PerformanceResolver,
        OperationsResolver,
        SuppressionResolver,
        ProviderResolver,
        AccessResolver,
        DateTimeScalar,
        JsonScalar,
        PositionScalar,
      ],
    };
  }
}

const inCohorts = (bus: CommandBus): SendOrder => {
  const cohort = new OrderCohort((orders: readonly DeliveryOrder[]) => bus.execute(new DeliveryOrders(orders)));
  return (order) => cohort.order(order);
};

const engineLog = (logger: Logger) => {
  const log = logger.child({ part: 'engine' });
  return {
    info: (message: string, fields: object = {}) => log.info(fields, message),
    warn: (message: string, fields: object = {}) => log.warn(fields, message),
    error: (message: string, fields: object = {}) => log.error(fields, message),
  };
};
