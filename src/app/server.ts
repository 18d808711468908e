import type { Server as TlsServer } from 'node:https';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Audit } from '../audit/audit.js';
import type { TrackingLinks } from '../channels/email/tracking.js';
import { ApprovalAnswers } from '../commands/approval-answers.js';
import { DestinationDirectory } from '../commands/destination-directory.js';
import type { CommandExecutor } from '../commands/executor.js';
import { ProviderReports } from '../commands/provider-reports.js';
import { delivery } from '../domain/delivery.js';
import { Authentication } from '../graphql/authentication.js';
import { InboxReads } from '../graphql/inbox-reads.js';
import { ReadModels } from '../graphql/read-models.js';
import { keepVariablesAside } from '../graphql/variables.js';
import { explainBodyLimit } from '../http/body-limit.js';
import { serveCallbacks } from '../http/callbacks.js';
import { type DownloadRoutes, serveDownloads } from '../http/downloads.js';
import { serveExports } from '../http/exports.js';
import { addSecurityHeaders } from '../http/security-headers.js';
import { followCertificate, MIN_VERSION, readCertificate } from '../http/tls.js';
import { serveTracking } from '../http/tracking.js';
import type { Config } from '../platform/config.js';
import { NestLogger } from '../platform/logger.js';
import { AppModule } from './app.module.js';
import { callbackDoors } from './callback-doors.js';
import type { Closings } from './closings.js';
import { authenticateWith, exportRefusal, exportSources } from './exports.js';
import { accessLogOf, type Infrastructure } from './infrastructure.js';
import { trackedMessages } from './tracked-messages.js';

/** The application behind its HTTP server, which does not listen yet. */
export async function createServer(
  infrastructure: Infrastructure,
  closings: Closings,
): Promise<NestFastifyApplication> {
  const { config, logger } = infrastructure;
  const certificate = config.tls && readCertificate(config.tls);
  const app = await NestFactory.create<NestFastifyApplication>(
    AppModule.of(infrastructure),
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
  const fastify = app.getHttpAdapter().getInstance();
  addSecurityHeaders(fastify, certificate !== undefined);
  if (config.corsOrigins.length > 0)
    app.enableCors({ origin: config.corsOrigins, methods: ['GET', 'POST'], maxAge: 600 });
  if (config.tls) {
    const log = logger.child({ part: 'tls' });
    const tell = (problem: string | undefined) =>
      problem === undefined ? log.info('the renewed certificate is in use') : log.error(problem);
    closings.push(followCertificate(app.getHttpServer() as unknown as TlsServer, config.tls, tell));
  }
  explainBodyLimit(fastify, config.limits.maxBodyBytes);
  keepVariablesAside(fastify);
  return app;
}

export interface Doors {
  readonly infrastructure: Infrastructure;
  readonly executor: CommandExecutor;
  readonly links: TrackingLinks;
  readonly downloads: Omit<DownloadRoutes, 'accessLog'>;
}

/** Opens the doors beside GraphQL: callbacks of providers, links in messages, downloads and exports. */
export async function openDoors(
  app: NestFastifyApplication,
  { infrastructure, executor, links, downloads }: Doors,
): Promise<void> {
  const { config, logger, channels } = infrastructure;
  const fastify = app.getHttpAdapter().getInstance();
  const accessLog = accessLogOf(infrastructure);
  await serveTracking(fastify, {
    reports: app.get(ProviderReports),
    isGenuine: (...link) => links.isGenuine(...link),
    find: trackedMessages((id) => executor.load(delivery, id), app.get(DestinationDirectory), links),
    onTrouble: (error) => logger.warn({ err: error }, 'what somebody did with a message could not be noted'),
  });
  serveDownloads(fastify, { ...downloads, accessLog });
  await serveCallbacks(fastify, {
    reports: app.get(ProviderReports),
    answers: app.get(ApprovalAnswers),
    accessLog,
    find: callbackDoors(channels.registry, app.get(DestinationDirectory), config.providers as never),
    publicUrl: config.publicUrl,
  });
  await serveExports(fastify, {
    sources: exportSources(app.get(ReadModels), app.get(InboxReads), app.get(Audit)),
    authenticate: authenticateWith(app.get(Authentication)),
    refusalOf: exportRefusal,
    failed: (error) => logger.warn({ err: error }, 'an export did not come to its end'),
  });
}

/** @returns where clients reach it */
export async function listen(app: NestFastifyApplication, { host, port, tls }: Config): Promise<string> {
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
