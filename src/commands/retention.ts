import { dataSubject } from '../domain/data-subject.js';
import { delivery } from '../domain/delivery.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import { type DisposalState, disposal } from '../domain/disposal.js';
import { badInput } from '../domain/rejection.js';
import {
  keptSince,
  keptWith,
  type RetentionClass,
  type RetentionState,
  retention,
  STANDARD,
} from '../domain/retention.js';
import type { CommandExecutor, Known, Refused } from './executor.js';
import { disposalId, newId, retentionId, subjectId } from './ids.js';
import type { Requester } from './intake.js';
import type { RetentionPolicies } from './retention-policies.js';

/** A key whose time may be over. */
export interface KeptKey {
  readonly id: string;
  readonly subject: string;
  /** The persons whose data it protects. */
  readonly members: readonly string[];
  /** The last day of the week that it is of. */
  readonly week: string;
}

export interface RetentionParts {
  readonly executor: CommandExecutor;
  readonly policies: RetentionPolicies;
  /** Organizations that have keys of deliveries. */
  readonly organizations: () => Promise<readonly string[]>;
  /** Living keys of weeks that ended before a day, the oldest first. */
  readonly keysBefore: (
    scope: { readonly organizationId: string; readonly retention: string; readonly before: string },
    after: KeptKey | undefined,
    limit: number,
  ) => Promise<readonly KeptKey[]>;
  /** Deliveries requested before a time that have not ended. */
  readonly openBefore: (organizationId: string, before: Date, limit: number) => Promise<readonly string[]>;
  readonly destroy: (keys: readonly string[], subject: string, organizationId: string) => Promise<void>;
}

/** What was disposed of under one class, or would be. */
export interface Disposed {
  readonly retention: string;
  readonly keep: string;
  /** Everything that was requested before this day is old enough, up to a week that is not over. */
  readonly before: string;
  readonly keysDestroyed: number;
  /** Not destroyed because of a legal hold. */
  readonly keysOnHold: number;
  /** Not destroyed because a delivery has not ended. */
  readonly keysInUse: number;
}

const MAX_REASON = 500;
/** Keys of one event: bounded, and enough that a million make two thousand. */
const BATCH = 500;
/** More deliveries of that age that wait for something are more than anybody means to keep waiting. */
const MAX_OPEN = 10_000;

/** How long content is kept, and its end. */
export class Retention {
  readonly #parts: RetentionParts;

  constructor(parts: RetentionParts) {
    this.#parts = parts;
  }

  of(organizationId: string): Promise<RetentionState> {
    return this.#parts.policies.find(organizationId);
  }

  async set(
    classes: readonly RetentionClass[],
    reason: string,
    requester: Requester,
  ): Promise<{ readonly ok: true; readonly state: RetentionState } | Refused> {
    if (reason.trim() === '' || reason.length > MAX_REASON)
      return badInput([{ path: 'reason', problem: `must have from 1 to ${MAX_REASON} characters` }]);
    const { organizationId, actor } = requester;
    const id = retentionId(organizationId);
    const asked = { now: new Date().toISOString(), organizationId, by: actor, reason };
    try {
      return await this.#parts.executor.execute(retention, {
        id,
        command: { type: 'SetRetention', classes, ...asked },
        envelope: envelopeOf(requester),
      });
    } finally {
      this.#parts.policies.forget(id);
    }
  }

  /**
   * Destroys the keys of what an organization need not keep any longer, class by class, in bounded batches. Each batch is
   * recorded first: from then on every instance, now or after any restart, destroys its keys, so a crash half-way leaves none
   * alive; what is left is found by the next run.
   *
   * @param dryRun only counts
   */
  async dispose(requester: Requester, now: Date, dryRun: boolean): Promise<Disposed[]> {
    const { organizationId } = requester;
    const { classes } = await this.#parts.policies.find(organizationId);
    const done: Disposed[] = [];
    for (const { name, keep } of classes) {
      const before = keep === undefined ? undefined : keptSince(keep, now);
      if (keep === undefined || before === undefined) continue;
      done.push(await this.#disposeClass({ retention: name, keep, before }, requester, now, dryRun));
    }
    return done;
  }

  /** Everybody's, as the schedule has it. */
  async disposeAll(now: Date): Promise<{ readonly organizationId: string; readonly disposed: readonly Disposed[] }[]> {
    const all: { organizationId: string; disposed: Disposed[] }[] = [];
    for (const organizationId of await this.#parts.organizations()) {
      const disposed = await this.dispose({ actor: 'waybill:retention', organizationId }, now, false);
      if (disposed.some(({ keysDestroyed }) => keysDestroyed > 0)) all.push({ organizationId, disposed });
    }
    return all;
  }

  async #disposeClass(
    rule: { readonly retention: string; readonly keep: string; readonly before: string },
    requester: Requester,
    now: Date,
    dryRun: boolean,
  ): Promise<Disposed> {
    const { organizationId, actor } = requester;
    const inUse = await this.#subjectsInUse(organizationId, rule.before);
    const holds = new Map<string, Promise<boolean>>();
    const counts = { keysDestroyed: 0, keysOnHold: 0, keysInUse: 0 };
    const id = disposalId(organizationId, now.getUTCFullYear());
    let known: Known<DisposalState> | undefined;
    for (let last: KeptKey | undefined; ; ) {
      const page = await this.#parts.keysBefore({ organizationId, ...rule }, last, BATCH);
      last = page.at(-1);
      if (last === undefined) break;
      const free: KeptKey[] = [];
      for (const key of page) {
        if (inUse.has(key.subject)) counts.keysInUse++;
        else if (await this.#isHeld(key.members, holds)) counts.keysOnHold++;
        else free.push(key);
      }
      counts.keysDestroyed += free.length;
      const [oldest, newest] = [free[0], free.at(-1)];
      if (dryRun || !oldest || !newest) continue;
      const keys = free.map((key) => key.id);
      const weeks = { firstWeek: oldest.week, lastWeek: newest.week };
      const { retention, keep } = rule;
      const result = await this.#parts.executor.execute(disposal, {
        id,
        command: {
          type: 'Dispose',
          now: now.toISOString(),
          organizationId,
          retention,
          keep,
          ...weeks,
          keys,
          by: actor,
        },
        envelope: envelopeOf(requester),
        ...(known && { known }),
      });
      if (!result.ok) throw new Error(result.rejection.message);
      known = result;
      await this.#parts.destroy(keys, '', organizationId);
    }
    return { ...rule, ...counts };
  }

  /** Those of deliveries that have not ended: their content is still to be sent, however old they are. */
  async #subjectsInUse(organizationId: string, before: string): Promise<ReadonlySet<string>> {
    const open = await this.#parts.openBefore(organizationId, new Date(before), MAX_OPEN + 1);
    if (open.length > MAX_OPEN)
      throw new Error(`more than ${MAX_OPEN} deliveries of ${organizationId} from before ${before} have not ended`);
    const subjects = new Set<string>();
    for (const id of open) {
      const { state }: Known<DeliveryState> = await this.#parts.executor.load(delivery, id);
      if (state.tag === 'absent' || state.request.subject === undefined) continue;
      const { subject, legs } = state.request;
      subjects.add(subject);
      for (const { routes } of legs)
        for (const route of routes) if (route.subject !== undefined) subjects.add(keptWith(subject, route.subject));
    }
    return subjects;
  }

  async #isHeld(persons: readonly string[], holds: Map<string, Promise<boolean>>): Promise<boolean> {
    for (const person of persons) {
      if (holds.size > BATCH) holds.clear();
      const isHeld =
        holds.get(person) ??
        this.#parts.executor.load(dataSubject, subjectId(person)).then(({ state }) => state.legalHold !== undefined);
      holds.set(person, isHeld);
      if (await isHeld) return true;
    }
    return false;
  }
}

/** All classes, the one for everything else among them. */
export const allClasses = ({ classes }: RetentionState): readonly RetentionClass[] =>
  classes.some(({ name }) => name === STANDARD) ? classes : [...classes, { name: STANDARD }];

const envelopeOf = ({ organizationId, actor, traceparent }: Requester) => ({
  organizationId,
  commandId: newId(),
  actor,
  ...(traceparent !== undefined && { traceparent }),
});
