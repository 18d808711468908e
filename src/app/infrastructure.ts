import type { Pool } from 'pg';
import type { Logger } from 'pino';
import type { AccessRecorder } from '../audit/access-recorder.js';
import { Audit } from '../audit/audit.js';
import type { AuditHealth } from '../audit/health.js';
import type { Publications } from '../audit/publications.js';
import type { Channels } from '../channels/registry.js';
import { Downloads } from '../commands/downloads.js';
import type { Forget } from '../commands/erasures.js';
import { Inboxes } from '../commands/inboxes.js';
import type { Contents } from '../event-store/content/contents.js';
import type { EventStore } from '../event-store/event-store.js';
import type { Config } from '../platform/config.js';
import type { ReadSide } from '../projections/read-side.js';
import { type AccessLog, LoggedDenials } from '../security/access-log.js';
import { DownloadLinks } from '../security/download-links.js';
import type { Keys } from './keys.js';

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
