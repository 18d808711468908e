import { setTimeout as delay } from 'node:timers/promises';
import type { EventReader } from '../event-store/event-store.js';
import { Bundles } from './bundle.js';
import type { SignedCheckpoint } from './checkpoint.js';
import { newestCheckpoint, wantCheckpoint } from './checkpoint-store.js';
import { type AuditProof, type ProofRequest, proofOf } from './proofs.js';
import { readHead, type Sql } from './store.js';
import type { AuditRunner } from './task.js';
import { type CallerOf, Trail } from './trail.js';
import type { AuditVerification } from './verification.js';

/** Nothing can be answered for now; nothing is wrong with what was asked. */
export class AuditUnavailable extends Error {
  override name = 'AuditUnavailable';
}

const LOOK_AGAIN_MS = 50;

/** What is asked of the audit trail, of any instance. */
export class Audit {
  readonly #sql: Sql;
  readonly #log: string;
  readonly trail: Trail;
  readonly bundles: Bundles;
  readonly #runner: AuditRunner;
  readonly #reader: EventReader;
  #verifying: Promise<AuditVerification> | undefined;

  constructor(sql: Sql, log: string, reader: EventReader, runner: AuditRunner, callerOf: CallerOf) {
    this.#sql = sql;
    this.#log = log;
    this.#reader = reader;
    this.#runner = runner;
    this.trail = new Trail(sql, log, reader, callerOf);
    this.bundles = new Bundles(sql, log, reader);
  }

  /** @throws AuditUnavailable before the first one is made, a second after the first start */
  async checkpoint(): Promise<SignedCheckpoint> {
    const newest = await newestCheckpoint(this.#sql, this.#log);
    if (!newest) throw new AuditUnavailable('there is no checkpoint of the audit trail yet');
    return newest;
  }

  /**
   * Has a checkpoint made of everything in the log at this moment.
   *
   * @throws AuditUnavailable when whoever builds the trail does not get there in time
   */
  async makeCheckpoint(timeoutMs = 15_000): Promise<SignedCheckpoint> {
    const head = await this.#reader.head();
    const until = performance.now() + timeoutMs;
    while (performance.now() < until) {
      const newest = await newestCheckpoint(this.#sql, this.#log);
      if (newest && newest.position >= head) return newest;
      if (((await readHead(this.#sql, this.#log))?.position ?? 0n) >= head) await wantCheckpoint(this.#sql);
      await delay(LOOK_AGAIN_MS);
    }
    throw new AuditUnavailable('the audit trail has not got to the end of the log in time');
  }

  /** @throws NoProof */
  proof(request: ProofRequest): Promise<AuditProof> {
    return proofOf(this.#sql, this.#log, request);
  }

  /** Whoever asks while a verification is going on gets its answer. */
  verify(): Promise<AuditVerification> {
    this.#verifying ??= this.#runner.verify().finally(() => {
      this.#verifying = undefined;
    });
    return this.#verifying;
  }
}
