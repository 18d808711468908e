import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import type { Server as TlsServer } from 'node:https';
import { join, resolve } from 'node:path';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { Logger } from 'pino';
import { AppModule, accessLogOf } from './app.module.js';
import { AccessRecorder } from './audit/access-recorder.js';
import { Audit } from './audit/audit.js';
import { CheckpointFiles } from './audit/checkpoint-files.js';
import { readVerifiers } from './audit/checkpoint-store.js';
import { AuditHealth } from './audit/health.js';
import { Publications } from './audit/publications.js';
import { AuditWorkerHost } from './audit/worker-host.js';
import { callersWith } from './audit-callers.js';
import { callbackDoors } from './callback-doors.js';
import { createChannels } from './channels/registry.js';
import { TrackingLinks } from './channels/tracking.js';
import { type CheckpointChannelSettings, checkpointChannels } from './checkpoint-channel.js';
import { AccessDirectory } from './commands/access-directory.js';
import { ApprovalAnswers } from './commands/approval-answers.js';
import { DestinationDirectory } from './commands/destination-directory.js';
import { Downloads } from './commands/downloads.js';
import { Erasures, type Forget } from './commands/erasures.js';
import { CommandExecutor } from './commands/executor.js';
import { Inboxes } from './commands/inboxes.js';
import { ProviderReports } from './commands/provider-reports.js';
import { Retention } from './commands/retention.js';
import { RetentionPolicies } from './commands/retention-policies.js';
import { openContents } from './contents.js';
import { DataDisposal } from './data-disposal.js';
import { delivery } from './domain/delivery.js';
import { openEventStore } from './event-log.js';
import { EventCodec } from './event-store/codec.js';
import { ContentCollector, removeContentsOf } from './event-store/content/collector.js';
import type { EventStore, EventStoreLocation } from './event-store/event-store.js';
import { KeyedEventStore } from './event-store/keyed-event-store.js';
import { identityOf } from './event-store/log-identity.js';
import { closedFields, SealedFields } from './event-store/sealed-fields.js';
import { removeWhenExpired } from './expired-files.js';
import { authenticateWith, exportRefusal, exportSources } from './exports.js';
import { FileRetention } from './file-retention.js';
import { Authentication } from './graphql/authentication.js';
import { InboxLive } from './graphql/inbox-live.js';
import { LiveSockets } from './graphql/live-sockets.js';
import { ReadModels } from './graphql/read-models.js';
import { keepVariablesAside } from './graphql/variables.js';
import { explainBodyLimit } from './http/body-limit.js';
import { serveCallbacks } from './http/callbacks.js';
import { serveDownloads } from './http/downloads.js';
import { serveExports } from './http/exports.js';
import { addSecurityHeaders } from './http/security-headers.js';
import { followCertificate, MIN_VERSION, readCertificate } from './http/tls.js';
import { serveTracking } from './http/tracking.js';
import { openKeys } from './keys.js';
import type { Config } from './platform/config.js';
import { adminKey, openDataDirectory } from './platform/data-directory.js';
import { openDatabase, openPool } from './platform/database.js';
import { matchDerivedState } from './platform/derived-state.js';
import { startPostgres } from './platform/embedded-postgres.js';
import { EncryptedFiles } from './platform/encrypted-files.js';
import { NestLogger } from './platform/logger.js';
import { version } from './platform/version.js';
import { entities } from './projections/entities.js';
import { ProjectionHost } from './projections/host.js';
import { InboxPresence } from './projections/inbox-presence.js';
import { ReadSide } from './projections/read-side.js';
import { Engine } from './sagas/engine.js';
import { StatusWebhooks } from './sagas/status-webhooks.js';
import { DownloadLinks } from './security/download-links.js';
import type { KeyTable } from './security/key-table.js';
import { Passwords } from './security/passwords.js';
import { trackedMessages } from './tracked-messages.js';

/** A key that does not come in this time is UNAVAILABLE. */
const KEYS_WITHIN_MS = 5_000;

type Closing = () => Promise<void> | void;

/** One running instance: everything it needs is started in order, and stopped in the opposite one. */
export class Waybill {
  readonly #closings: Closing[];

  private constructor(
    readonly url: string,
    readonly dataDir: string,
    /** Set when this start made it; it is shown once. */
    readonly newAdminKey: string | undefined,
    closings: Closing[],
  ) {
    this.#closings = closings;
  }

  /** @throws with one line for the operator when a part cannot start; what was started is stopped again */
  static async start(config: Config, logger: Logger): Promise<Waybill> {
    const closings: Closing[] = [];
    try {
      return await Waybill.#start(config, logger, closings);
    } catch (error) {
      await closeAll(closings, logger);
      throw error;
    }
  }

  /** Takes no more requests, lets attempts under way end, stores where everything stands. */
  async stop(logger: Logger): Promise<void> {
    await closeAll(this.#closings, logger);
  }

  static async #start(config: Config, logger: Logger, closings: Closing[]): Promise<Waybill> {
    const directory = await openDataDirectory(config.dataDir);
    closings.push(() => directory.release());
    const { key, isNew } = await adminKey(config);

    const postgres = config.databaseUrl
      ? { connectionString: config.databaseUrl }
      : await startEmbeddedPostgres(config, directory.instanceId, logger, closings);

    const log = await locate(config, directory.path);
    const onTrouble = (error: Error) => logger.warn({ err: error }, 'the connection to the event store was lost');
    const stored = await openEventStore(log, onTrouble).catch((error: Error) => {
      throw config.eventStoreUrl ? new Error(`EVENTSTORE_URL: ${error.message}`, { cause: error }) : error;
    });
    closings.push(() => stored.close());
    const identity = await identityOf(stored);
    const headAtStart = await stored.head();

    const database = await openDatabase({ connection: postgres, entities }).catch((error: Error) => {
      throw config.databaseUrl ? new Error(`DATABASE_URL: ${error.message}`, { cause: error }) : error;
    });
    closings.push(() => database.destroy());
    // The embedded database can be reached from this data directory only, and that is locked.
    const isAlone = !config.databaseUrl;
    const whose = { isShared: !isAlone, instanceId: directory.instanceId };
    await matchDerivedState(database, { ...identity, head: () => stored.head() }, whose, logger);
    const pool = openPool(postgres, {
      ...{ name: 'waybill-engine', size: 4 },
      lost: (error) => logger.warn({ err: error }, 'an idle database connection was lost'),
    });
    closings.push(() => pool.end());

    const keyPool = openPool(postgres, {
      ...{ name: 'waybill-keys', size: 2, answerWithinMs: KEYS_WITHIN_MS },
      lost: (error) => logger.warn({ err: error }, 'an idle database connection was lost'),
    });
    closings.push(() => keyPool.end());
    const sealing = await openKeys(config, keyPool, stored);
    const contents = await openContents(config, stored, identity);
    if (config.eventStoreUrl !== undefined && config.content === undefined)
      logger.warn(
        { folder: contents.store.place },
        'large contents are kept in this folder, which other instances do not see: WAYBILL_CONTENT names one for all',
      );
    const store = new KeyedEventStore(stored, sealing.dataKeys, contents);

    let reconsider = async (_subject: string): Promise<void> => undefined;
    const forget: Forget = async (ids, subject, organizationId) => {
      await sealing.destroy(ids, subject, organizationId);
      // Nobody can read it any more; what cannot be removed now is found by the collector.
      await removeContentsOf(ids, contents).catch((error: unknown) =>
        logger.warn({ err: error }, 'contents whose keys were destroyed could not be removed yet'),
      );
      await reconsider(subject);
    };
    const erasures = new Erasures({
      reader: stored,
      forget,
      load: () => followedIn(sealing.table, stored, identity.id),
      save: (position) => sealing.table.followedErasures(identity.id, position),
      onTrouble: (error) => logger.warn({ err: error }, 'erasures cannot be followed; it will try again'),
    });
    // Before anything can be opened.
    await erasures.start();
    closings.push(() => erasures.stop());
    const collector = new ContentCollector({
      contents,
      reader: stored,
      destroyedOf: async (keys) => {
        const rows = await sealing.table.find([], keys);
        return new Set(rows.filter(({ wrapped }) => wrapped === null).map(({ id }) => id));
      },
      graceMs: config.contentGraceHours * 3_600_000,
      nowMs: Date.now,
      collected: (found) => logger.info(found, 'contents were looked through'),
      failed: (error) => logger.warn({ err: error }, 'contents could not be looked through; it will try again'),
    });
    collector.start();
    closings.push(() => collector.stop());

    const codec = new EventCodec(new SealedFields(sealing.dataKeys));
    const executor = new CommandExecutor(store, codec);
    const files = new EncryptedFiles(resolve(directory.path, config.downloadRoot ?? 'downloads'));
    closings.push(removeWhenExpired(files, logger.child({ part: 'downloads' })));
    const passwords = new Passwords();
    const downloads = new Downloads({
      ...{ executor, codec, reader: store, shelf: files, newKey: () => randomBytes(32) },
      hashPassword: (password) => passwords.hash(password),
    });
    const downloadLinks = new DownloadLinks(sealing.derived('download links'));
    const inboxes = new Inboxes(executor, sealing.subjects);
    const links = new TrackingLinks({
      publicUrl: config.publicUrl,
      sign: (text) => sealing.subjects.digest(text),
    });
    const channels = createChannels({
      links,
      inboxes,
      downloads,
      allowedNetworks: config.allowedNetworks,
      version: version(),
      localRoot: config.localStorageRoot ?? join(directory.path, 'files'),
    });
    closings.push(() => channels.close());

    const auditLog = logger.child({ part: 'audit' });
    const folder = resolve(directory.path, config.audit.folder ?? 'audit');
    const keys = async () => (await readVerifiers(pool)).map(({ text }) => text);
    const elsewhere = checkpointChannels(
      config.audit.publish as readonly CheckpointChannelSettings[],
      channels.registry,
      auditLog,
    );
    const publications = new Publications([new CheckpointFiles(folder), ...elsewhere], keys, auditLog);
    closings.push(() => publications.stop());
    const auditHealth = new AuditHealth({
      ...{ sql: pool, log: identity.id, reader: stored },
      tell: (problem) =>
        problem === undefined
          ? auditLog.info('the audit trail grows again')
          : auditLog.error({ problem }, 'the audit trail does not grow: /ready says so too'),
    });
    auditHealth.start();
    closings.push(() => auditHealth.stop());
    const auditor = new AuditWorkerHost(
      {
        ...{ postgres, location: log, log: identity.id, owner: directory.instanceId },
        keyFile: resolve(directory.path, config.audit.keyFile ?? 'audit-key.pem'),
        folder,
        checkpointEntries: config.audit.checkpointEntries,
        checkpointSeconds: config.audit.checkpointSeconds,
      },
      {
        checkpoint: (note) => publications.offer(note),
        problem: (problem) => {
          auditHealth.hear(problem);
          if (problem !== undefined)
            auditLog.warn({ problem }, 'the audit trail could not be added to; it is tried again');
        },
      },
    );
    const { batchEvents, batchDelayMs, keepReplacedHours } = config.projections;
    const projections = new ProjectionHost({
      ...{ reader: stored, codec: new EventCodec(closedFields), postgres, log, batchEvents, batchDelayMs },
      ...{ owner: directory.instanceId, isAlone, keepReplacedMs: keepReplacedHours * 3_600_000 },
      companion: () => auditor.attach(),
      onHealth: ({ name, isFailing, lastError }) =>
        isFailing
          ? logger.error({ projection: name, error: lastError }, 'a read model does not get on: /ready says so too')
          : logger.info({ projection: name }, 'a read model gets on again'),
    });
    projections.start();
    closings.push(
      () => projections.stop(),
      () => auditor.stop(),
    );
    const reads = new ReadSide(database, projections, { reader: stored, codec: new EventCodec(closedFields) });

    const accessRecorder = new AccessRecorder(stored, new EventCodec(new SealedFields(sealing.dataKeys)), auditLog);
    closings.push(() => accessRecorder.stop());

    const certificate = config.tls && readCertificate(config.tls);
    const { instanceId } = directory;
    const app = await NestFactory.create<NestFastifyApplication>(
      AppModule.of({
        config,
        adminKey: key,
        instanceId,
        store,
        keys: sealing,
        contents,
        forget,
        headAtStart,
        pool,
        channels,
        inboxes,
        downloads,
        downloadLinks,
        reads,
        audit: new Audit(pool, identity.id, stored, auditor, callersWith(sealing.dataKeys)),
        auditHealth,
        publications,
        accessRecorder,
        logger,
        isAlone,
      }),
      new FastifyAdapter({
        bodyLimit: config.limits.maxBodyBytes,
        forceCloseConnections: true,
        trustProxy: config.trustedProxies.length > 0 && config.trustedProxies,
        ...(certificate && { https: { ...certificate, minVersion: MIN_VERSION } }),
      }),
      // What Nest has to say of a good start is of no use to an operator.
      {
        logger: new NestLogger(logger.child({}, { level: logger.isLevelEnabled('debug') ? logger.level : 'warn' })),
        abortOnError: false,
      },
    );
    addSecurityHeaders(app.getHttpAdapter().getInstance(), certificate !== undefined);
    if (config.corsOrigins.length > 0)
      app.enableCors({ origin: config.corsOrigins, methods: ['GET', 'POST'], maxAge: 600 });
    if (config.tls) {
      const log = logger.child({ part: 'tls' });
      const tell = (problem: string | undefined) =>
        problem === undefined ? log.info('the renewed certificate is in use') : log.error(problem);
      closings.push(followCertificate(app.getHttpServer() as unknown as TlsServer, config.tls, tell));
    }
    explainBodyLimit(app.getHttpAdapter().getInstance(), config.limits.maxBodyBytes);
    keepVariablesAside(app.getHttpAdapter().getInstance());
    await serveTracking(app.getHttpAdapter().getInstance(), {
      reports: app.get(ProviderReports),
      isGenuine: (...link) => links.isGenuine(...link),
      find: trackedMessages((id) => executor.load(delivery, id), app.get(DestinationDirectory), links),
      onTrouble: (error) => logger.warn({ err: error }, 'what somebody did with a message could not be noted'),
    });
    serveDownloads(app.getHttpAdapter().getInstance(), {
      ...{ downloads, passwords, files, links: downloadLinks },
      accessLog: accessLogOf({ logger, accessRecorder }),
    });
    await serveCallbacks(app.getHttpAdapter().getInstance(), {
      reports: app.get(ProviderReports),
      answers: app.get(ApprovalAnswers),
      accessLog: accessLogOf({ logger, accessRecorder }),
      find: callbackDoors(channels.registry, app.get(DestinationDirectory), config.providers as never),
      publicUrl: config.publicUrl,
    });
    await serveExports(app.getHttpAdapter().getInstance(), {
      sources: exportSources(app.get(ReadModels), app.get(Audit)),
      authenticate: authenticateWith(app.get(Authentication)),
      refusalOf: exportRefusal,
      failed: (error) => logger.warn({ err: error }, 'an export did not come to its end'),
    });
    const following = new AbortController();
    const destinations = app.get(DestinationDirectory);
    destinations.follow(store, headAtStart, following.signal);
    const accesses = app.get(AccessDirectory);
    accesses.follow(store, headAtStart, following.signal);
    const policies = app.get(RetentionPolicies);
    policies.follow(store, headAtStart, following.signal);
    const inboxLive = app.get(InboxLive);
    inboxLive.follow(store, headAtStart, following.signal);
    closings.push(async () => {
      following.abort();
      await Promise.all([destinations.stopped(), accesses.stopped(), policies.stopped(), inboxLive.stopped()]);
    });
    closings.push(() => app.get(InboxPresence).stop());
    closings.push(() => app.get(LiveSockets).stop());
    const retention = new FileRetention(channels.registry, {
      async *destinations() {
        for (const { id } of await reads.destinations.list('all', 'STORAGE')) {
          const found = await destinations.find(id);
          if (found)
            yield { id, organizationId: found.definition.organizationId, type: 'STORAGE', config: found.config };
        }
      },
      removed: (destination, files) =>
        logger.info({ destination, files }, 'files were removed that had been kept long enough'),
      failed: (destination, error) =>
        logger.warn({ destination, err: error }, 'files that are too old could not be removed'),
    });
    retention.start();
    closings.push(() => retention.stop());
    const disposal = new DataDisposal(app.get(Retention), {
      pool,
      disposed: (organization, retention, keys) =>
        logger.info({ organization, retention, keys }, 'what need not be kept any longer was disposed of'),
      failed: (error) => logger.error({ err: error }, 'what need not be kept any longer could not be disposed of'),
    });
    disposal.start();
    closings.push(() => disposal.stop());
    const engine = app.get(Engine);
    reconsider = (subject) => engine.reconsider(subject);
    closings.push(() => engine.stop());
    const statusWebhooks = app.get(StatusWebhooks);
    closings.push(() => statusWebhooks.stop());
    closings.push(() => app.close());

    const url = await listen(app, config);
    engine.start();
    statusWebhooks.start();
    return new Waybill(url, directory.path, isNew ? key : undefined, closings);
  }
}

/** A position beyond the end is of a log that was longer once. */
async function followedIn(table: KeyTable, store: EventStore, logId: string): Promise<bigint> {
  const followed = await table.erasuresFollowed(logId);
  return followed <= (await store.head()) ? followed : 0n;
}

/** The event store that is configured, else the embedded log, whose folder is made if it is missing. */
async function locate({ eventStoreUrl }: Config, dataDir: string): Promise<EventStoreLocation> {
  if (eventStoreUrl !== undefined) return { url: eventStoreUrl };
  const path = join(dataDir, 'log');
  await mkdir(path, { recursive: true, mode: 0o700 });
  return { path };
}

async function startEmbeddedPostgres(config: Config, instanceId: string, logger: Logger, closings: Closing[]) {
  const postgres = await startPostgres({
    dataDir: config.dataDir,
    instanceId,
    log: logger.child({ part: 'postgres' }),
    restart: true,
  });
  closings.push(() => postgres.stop());
  return postgres.connection;
}

/** @returns where clients reach it */
async function listen(app: NestFastifyApplication, { host, port, tls }: Config): Promise<string> {
  try {
    await app.listen(port, host);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') throw new Error(`Port ${port} on ${host} is in use; set PORT to another one.`);
    if (code === 'EACCES')
      throw new Error(`Port ${port} needs privileges this account does not have; set PORT to one above 1023.`);
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
      throw new Error(`HOST ${host} is not an address of this machine.`);
    throw error;
  }
  const address = app.getHttpServer().address() as { port: number };
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return `${tls ? 'https' : 'http'}://${name.includes(':') ? `[${name}]` : name}:${address.port}`;
}

/** In reverse order; one that fails does not keep the others open. */
async function closeAll(closings: Closing[], logger: Logger): Promise<void> {
  for (let close = closings.pop(); close; close = closings.pop()) {
    try {
      await close();
    } catch (error) {
      logger.error({ err: error }, 'a part did not stop as it should');
    }
  }
}
