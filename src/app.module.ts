import { readFileSync } from 'node:fs';
import { type DynamicModule, Module } from '@nestjs/common';
import { CommandBus, CqrsModule } from '@nestjs/cqrs';
import { GraphQLModule } from '@nestjs/graphql';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import type { Pool } from 'pg';
import type { Logger } from 'pino';
import type { AccessRecorder } from './audit/access-recorder.js';
import { Audit } from './audit/audit.js';
import type { AuditHealth } from './audit/health.js';
import type { Publications } from './audit/publications.js';
import { PluggedChannels } from './channel-catalog.js';
import type { Channels } from './channels/registry.js';
import { Access } from './commands/access.js';
import { AccessDirectory } from './commands/access-directory.js';
import { ApprovalAnswers } from './commands/approval-answers.js';
import { DataSubjects } from './commands/data-subjects.js';
import { Deliveries } from './commands/deliveries.js';
import { DestinationDirectory } from './commands/destination-directory.js';
import { Destinations } from './commands/destinations.js';
import { Downloads } from './commands/downloads.js';
import type { Forget } from './commands/erasures.js';
import { CommandExecutor } from './commands/executor.js';
import { accessId } from './commands/ids.js';
import { Inboxes } from './commands/inboxes.js';
import { Intake } from './commands/intake.js';
import {
  AccessOrder,
  AccessOrderHandler,
  DeliveryOrders,
  DeliveryOrdersHandler,
  DestinationOrder,
  DestinationOrderHandler,
} from './commands/orders.js';
import { ProviderDirectory } from './commands/provider-directory.js';
import { ProviderReports } from './commands/provider-reports.js';
import { RecordedHealth } from './commands/recorded-health.js';
import { Retention } from './commands/retention.js';
import { RetentionPolicies } from './commands/retention-policies.js';
import { Suppressions } from './commands/suppressions.js';
import { SuspendedDeliveries } from './commands/suspended-deliveries.js';
import { IDENTITY, isLive, permissionsOf } from './domain/access.js';
import { delivery } from './domain/delivery.js';
import { EventCodec } from './event-store/codec.js';
import type { Contents } from './event-store/content/contents.js';
import type { EventStore } from './event-store/event-store.js';
import { SealedFields, SealedTokens } from './event-store/sealed-fields.js';
import { AccessResolver } from './graphql/access.resolver.js';
import { guardOperations } from './graphql/access-guard.js';
import { AuditResolver } from './graphql/audit.resolver.js';
import { Authentication } from './graphql/authentication.js';
import { ConnectionTester } from './graphql/connection-tester.js';
import { DataSubjectResolver } from './graphql/data-subject.resolver.js';
import { DeliveryResolver } from './graphql/delivery.resolver.js';
import { DeliveryPresenter } from './graphql/delivery-presenter.js';
import { DestinationResolver } from './graphql/destination.resolver.js';
import { DownloadResolver, PublicUrl } from './graphql/download.resolver.js';
import { errorFormatter } from './graphql/errors.js';
import { InboxResolver } from './graphql/inbox.resolver.js';
import { InboxLive } from './graphql/inbox-live.js';
import { InboxReads } from './graphql/inbox-reads.js';
import { InsightResolver } from './graphql/insight.resolver.js';
import { LiveSockets } from './graphql/live-sockets.js';
import { OperationsResolver } from './graphql/operations.resolver.js';
import { PerformanceResolver } from './graphql/performance.resolver.js';
import { ProviderResolver } from './graphql/provider.resolver.js';
import { guardQueries, guardSubscriptions } from './graphql/query-limits.js';
import { ReadModels } from './graphql/read-models.js';
import { isOrganization } from './graphql/request-context.js';
import { RetentionResolver } from './graphql/retention.resolver.js';
import { DateTimeScalar, JsonScalar, PositionScalar } from './graphql/scalars.js';
import { SealedRows } from './graphql/sealed-rows.js';
import { SuppressionResolver } from './graphql/suppression.resolver.js';
import { HealthController } from './http/health.controller.js';
import { Readiness } from './http/readiness.js';
import type { Keys } from './keys.js';
import type { Config } from './platform/config.js';
import { InboxPresence } from './projections/inbox-presence.js';
import type { ReadSide } from './projections/read-side.js';
import { Engine } from './sagas/engine.js';
import { EngineStore } from './sagas/engine-store.js';
import { StatusWebhookStore } from './sagas/status-webhook-store.js';
import { StatusWebhooks } from './sagas/status-webhooks.js';
import { SuspensionQueries } from './sagas/suspension-store.js';
import { type ConfiguredProvider, Targets } from './sagas/targets.js';
import { type AccessLog, LoggedDenials } from './security/access-log.js';
import { ApiKeys } from './security/api-keys.js';
import { AdminKey, Authenticator } from './security/authenticator.js';
import { DownloadLinks } from './security/download-links.js';
import { InboxTokens } from './security/inbox-tokens.js';
import { RateLimits } from './security/rate-limits.js';
import { Tokens } from './security/tokens.js';

/** What must be running before the application can be put together. */
export interface Infrastructure {
  readonly config: Config;
  readonly adminKey: string;
  readonly instanceId: string;
  readonly store: EventStore;
  readonly keys: Keys;
  readonly contents: Contents;
  readonly forget: Forget;
  readonly headAtStart: bigint;
  readonly pool: Pool;
  readonly channels: Channels;
  readonly inboxes: Inboxes;
  readonly downloads: Downloads;
  readonly downloadLinks: DownloadLinks;
  readonly reads: ReadSide;
  readonly audit: Audit;
  readonly auditHealth: Pick<AuditHealth, 'problem'>;
  readonly publications: Pick<Publications, 'failing'>;
  readonly accessRecorder: AccessRecorder;
  readonly logger: Logger;
  /** True when no other instance can be alive. */
  readonly isAlone: boolean;
}

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
    const presenter = new DeliveryPresenter(store, codec);
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
                order: async (order) => {
                  const [result] = await bus.execute(new DeliveryOrders([order]));
                  if (!result) throw new Error('the command bus gave no answer');
                  return result;
                },
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

/** Who hears of denied accesses. */
export function accessLogOf({ logger, accessRecorder }: Pick<Infrastructure, 'logger' | 'accessRecorder'>): AccessLog {
  const access = logger.child({ part: 'access' });
  const denials = new LoggedDenials((fields, message) => access.warn(fields, message));
  return {
    record(access) {
      denials.record(access);
      accessRecorder.record(access);
    },
  };
}

function authenticationOf(
  infrastructure: Infrastructure,
  accesses: AccessDirectory,
  sockets: LiveSockets,
  inboxTokens: InboxTokens,
): Authentication {
  const { config, adminKey, logger } = infrastructure;
  const access = logger.child({ part: 'access' });
  const accessLog = accessLogOf(infrastructure);
  const { maxFailures, failureWindowSeconds } = config.auth;
  const rules = { permissionsOf, isLive };
  const tokens = new Tokens(config.auth.oidc, {
    ...{ accesses, rules, streamOf: accessId, isOrganization, isIdentity: (text) => IDENTITY.test(text) },
    warn: (message) => access.warn(message),
  });
  const authenticator = new Authenticator([new ApiKeys(accesses, rules), new AdminKey(adminKey), inboxTokens, tokens], {
    maxFailures,
    windowSeconds: failureWindowSeconds,
  });
  return new Authentication(authenticator, accessLog, sockets, new RateLimits(config.limits.requestsPerMinute));
}

function graphql({ config, logger }: Infrastructure, authentication: Authentication): DynamicModule {
  return GraphQLModule.forRoot<MercuriusDriverConfig>({
    driver: MercuriusDriver,
    typeDefs: readFileSync(new URL('./graphql/schema.graphql', import.meta.url), 'utf8'),
    transformSchema: guardOperations,
    path: '/graphql',
    context: authentication.http,
    subscription: { onConnect: authentication.connect as never, fullWsTransport: true },
    queryDepth: config.limits.maxQueryDepth,
    errorFormatter: errorFormatter((error) => {
      const reference = Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
      logger.error({ err: error, reference }, 'a request failed unexpectedly');
      return reference;
    }) as never,
    hooks: {
      preParsing: authentication.guard,
      preSubscriptionParsing: authentication.guard,
      preSubscriptionExecution: guardSubscriptions(config.limits),
      preExecution: guardQueries({ ...config.limits, introspection: config.introspection }),
    },
    graphiql: false,
  });
}

function readiness(infrastructure: Infrastructure, engine: Engine): Readiness {
  const { store, pool, reads, auditHealth, publications } = infrastructure;
  const checks = {
    log: async () => void (await store.head()),
    // What pg says names its server, and anybody may ask whether we are ready.
    postgres: () =>
      pool.query('SELECT 1').then(
        () => undefined,
        () => 'does not answer',
      ),
    engine: () => {
      const { state } = engine.status();
      return state === 'running' ? undefined : state;
    },
    projections: () => reads.problem(),
    audit: () => auditHealth.problem,
  };
  const unpublished = () =>
    publications.failing.map(({ name, since }) => `audit: no checkpoint could be published to ${name} since ${since}`);
  return new Readiness(checks, unpublished);
}

const engineLog = (logger: Logger) => {
  const log = logger.child({ part: 'engine' });
  return {
    info: (message: string, fields: object = {}) => log.info(fields, message),
    warn: (message: string, fields: object = {}) => log.warn(fields, message),
    error: (message: string, fields: object = {}) => log.error(fields, message),
  };
};
