import pg from 'pg';
import type { EventReader } from '../event-store/event-store.js';
import { originOf } from './checkpoint.js';
import { CheckpointFiles } from './checkpoint-files.js';
import { SigningKeys, type WriteFile } from './signing-keys.js';
import { type AuditVerification, verifyAudit } from './verification.js';
import { type AuditObserver, AuditWriter } from './writer.js';

export interface AuditSettings {
  readonly postgres: pg.ClientConfig;
  /** Identity of the event log. */
  readonly log: string;
  /** This instance. */
  readonly owner: string;
  /** The private key of the checkpoints. */
  readonly keyFile: string;
  /** Where checkpoints are published as files. */
  readonly folder: string;
  readonly checkpointEntries: number;
  readonly checkpointSeconds: number;
}

/** What is done for the audit trail beside answering queries, in this thread or in one of its own. */
export interface AuditRunner {
  stop(): Promise<void>;
  /** Runs as long as it takes: about 15 s for a million entries. */
  verify(): Promise<AuditVerification>;
}

export class AuditTask implements AuditRunner {
  readonly #settings: AuditSettings;
  readonly #reader: EventReader;
  readonly #keys: SigningKeys;
  readonly #writer: AuditWriter;
  readonly #stopping = new AbortController();

  constructor(settings: AuditSettings, reader: EventReader, write: WriteFile, observer: AuditObserver) {
    this.#settings = settings;
    this.#reader = reader;
    this.#keys = new SigningKeys(settings.keyFile, write);
    this.#writer = new AuditWriter({ ...settings, reader, keys: this.#keys }, observer);
  }

  start(): void {
    this.#writer.start();
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the audit is stopped'));
    await this.#writer.stop();
  }

  async verify(): Promise<AuditVerification> {
    const { postgres, log, folder } = this.#settings;
    const { signal } = this.#stopping;
    const sql = new pg.Client({ ...postgres, application_name: 'waybill-audit-verify', keepAlive: true });
    sql.on('error', () => undefined);
    try {
      await sql.connect();
      const trusted = await this.#keys.signers(originOf(log));
      const published = await new CheckpointFiles(folder).read(log);
      return await verifyAudit({ reader: this.#reader, sql, log, trusted, published, signal });
    } finally {
      await sql.end().catch(() => undefined);
    }
  }
}
