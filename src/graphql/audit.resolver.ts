import { UseFilters } from '@nestjs/common';
import { Mutation, Query, Resolver } from '@nestjs/graphql';
import { Audit, AuditUnavailable } from '../audit/audit.js';
import type { SignedCheckpoint } from '../audit/checkpoint.js';
import { MalformedNote } from '../audit/signed-note.js';
import { ApiError } from './errors.js';
import { PassErrorsOn } from './pass-errors-on.js';

/** Evidence: what was recorded, and that nothing of it was changed since. */
@Resolver()
@UseFilters(PassErrorsOn)
export class AuditResolver {
  constructor(private readonly audit: Audit) {}

  @Query()
  async auditCheckpoint() {
    return presented(await explaining(this.audit.checkpoint()));
  }

  @Query()
  async verifyAudit() {
    const verification = await this.audit.verify();
    return { ...verification, checkpoint: () => this.audit.checkpoint().then(presented, () => null) };
  }

  @Mutation()
  async makeAuditCheckpoint() {
    return presented(await explaining(this.audit.makeCheckpoint()));
  }
}

const presented = ({ size, root, position, time, note, parsed }: SignedCheckpoint) => ({
  treeSize: size,
  rootHash: root.toString('base64'),
  position,
  signedAt: time,
  signature: parsed.signatures.at(-1)?.signature.toString('base64') ?? '',
  note,
});

async function explaining<Result>(work: Promise<Result>): Promise<Result> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof AuditUnavailable) throw new ApiError('UNAVAILABLE', `${error.message}; try again`);
    if (error instanceof MalformedNote)
      throw new ApiError('CONFLICT', `the newest checkpoint ${error.message}: verify the audit`);
    throw error;
  }
}
