import { resolve } from 'node:path';
import type { Logger } from 'pino';
import { AccessRecorder } from '../audit/access-recorder.js';
import { Audit } from '../audit/audit.js';
import { CheckpointFiles } from '../audit/checkpoint-files.js';
import { readVerifiers } from '../audit/checkpoint-store.js';
import { AuditHealth } from '../audit/health.js';
import { Publications } from '../audit/publications.js';
import { AuditWorkerHost } from '../audit/worker-host.js';
import type { ChannelRegistry } from '../channels/registry.js';
import { EventCodec } from '../event-store/codec.js';
import { closedFields } from '../event-store/sealed-fields.js';
import type { Config } from '../platform/config.js';
import { ReadSide } from '../projections/read-side.js';
import { ProjectionHost } from '../projections/runner/host.js';
import { callersWith } from './audit-callers.js';
import { type CheckpointChannelSettings, checkpointChannels } from './checkpoint-channel.js';
import type { Closings } from './closings.js';
import type { SealedLog } from './sealed-log.js';
import type { Storage } from './storage.js';

interface FollowersParts {
  readonly config: Config;
  readonly storage: Storage;
  readonly sealed: SealedLog;
  readonly registry: ChannelRegistry;
  readonly logger: Logger;
}

export type Followers = ReturnType<typeof startFollowers>;

/** What follows the log: the read models and the audit trail, which share a thread, and who publishes its checkpoints. */
export function startFollowers({ config, storage, sealed, registry, logger }: FollowersParts, closings: Closings) {
  const { directory, instanceId, isAlone, postgres, location, log, identity, database, pool } = storage;
  const auditLog = logger.child({ part: 'audit' });
  const folder = resolve(directory.path, config.audit.folder ?? 'audit');
  const verifiers = async () => (await readVerifiers(pool)).map(({ text }) => text);
  const elsewhere = checkpointChannels(
    config.audit.publish as readonly CheckpointChannelSettings[],
    registry,
    auditLog,
  );
  const publications = new Publications([new CheckpointFiles(folder), ...elsewhere], verifiers, auditLog);
  closings.push(() => publications.stop());
  const auditHealth = new AuditHealth({
    ...{ sql: pool, log: identity.id, reader: log },
    tell: (problem) =>
      problem === undefined
        ? auditLog.info('the audit trail grows again')
        : auditLog.error({ problem }, 'the audit trail does not grow: /ready says so too'),
  });
  auditHealth.start();
  closings.push(() => auditHealth.stop());
  const auditor = new AuditWorkerHost(
    {
      ...{ postgres, location, log: identity.id, owner: instanceId },
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
  const codec = new EventCodec(closedFields);
  const projections = new ProjectionHost({
    ...{ reader: log, codec, postgres, log: location, batchEvents, batchDelayMs },
    ...{ owner: instanceId, isAlone, keepReplacedMs: keepReplacedHours * 3_600_000 },
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

  const accessRecorder = new AccessRecorder(log, sealed.codec, auditLog);
  closings.push(() => accessRecorder.stop());
  return {
    reads: new ReadSide(database, projections, { reader: log, codec }),
    audit: new Audit(pool, identity.id, log, auditor, callersWith(sealed.keys.dataKeys)),
    ...{ auditHealth, publications, accessRecorder },
  };
}
