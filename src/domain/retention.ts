import { DAY_MS, dayOf } from './instant.js';
import { badInput, type Decision, record } from './rejection.js';
import type { FieldProblem, Instant } from './vocabulary.js';

/** How long what an organization's deliveries hold of people and content is kept, and what was disposed of. */

interface Fact<Type extends string, Data> {
  readonly type: Type;
  readonly at: Instant;
  readonly data: Data;
}

/** One of an organization's classes of content. */
export interface RetentionClass {
  readonly name: string;
  /** ISO 8601: P90D, P6Y, P7Y …; without it, until somebody is erased. */
  readonly keep?: string;
  /** Deliveries with one of these tags are of this class, unless they name one. */
  readonly tags?: readonly string[];
}

export type RetentionEvent = Fact<
  'RetentionSet',
  {
    readonly organizationId: string;
    readonly classes: readonly RetentionClass[];
    readonly by: string;
    readonly reason: string;
  }
>;

export interface RetentionState {
  readonly classes: readonly RetentionClass[];
  readonly set?: { readonly by: string; readonly reason: string; readonly at: Instant };
}

export interface SetRetention {
  readonly type: 'SetRetention';
  readonly now: Instant;
  readonly organizationId: string;
  readonly classes: readonly RetentionClass[];
  readonly by: string;
  readonly reason: string;
}

/** Of every delivery that no other class is for; it need not be in the list. */
export const STANDARD = 'standard';

const NAME = /^[a-z][a-z0-9-]{0,31}$/;
const MOST_CLASSES = 20;
const MOST_TAGS = 50;

function decideRetention(command: SetRetention, state: RetentionState): Decision<RetentionEvent> {
  const { now, organizationId, classes, by, reason } = command;
  const problems = problemsOf(classes);
  // What was requested under a class is kept as it says: without it nobody would know how long.
  for (const { name } of state.classes)
    if (!classes.some((other) => other.name === name))
      problems.push({ path: 'classes', problem: `must go on to have "${name}": deliveries may be kept under it` });
  if (problems.length > 0) return badInput(problems);
  if (JSON.stringify(classes) === JSON.stringify(state.classes)) return record();
  return record({ type: 'RetentionSet', at: now, data: { organizationId, classes, by, reason } });
}

function problemsOf(classes: readonly RetentionClass[]): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const tags = new Map<string, string>();
  if (classes.length > MOST_CLASSES)
    problems.push({ path: 'classes', problem: `must not be more than ${MOST_CLASSES}` });
  for (const [index, { name, keep, tags: own = [] }] of classes.entries()) {
    const path = `classes.${index}`;
    if (!NAME.test(name))
      problems.push({
        path: `${path}.name`,
        problem: 'must be 1 to 32 small letters, digits and dashes, a letter first',
      });
    if (classes.findIndex((other) => other.name === name) < index)
      problems.push({ path: `${path}.name`, problem: `"${name}" is taken` });
    if (keep !== undefined && keptSince(keep, new Date()) === undefined)
      problems.push({
        path: `${path}.keep`,
        problem: 'must be an ISO 8601 duration of 1 day to 100 years, such as P90D, P6Y or P7Y',
      });
    if (own.length > MOST_TAGS) problems.push({ path: `${path}.tags`, problem: `must not be more than ${MOST_TAGS}` });
    for (const [nth, tag] of own.entries()) {
      const other = tags.get(tag);
      if (other !== undefined) problems.push({ path: `${path}.tags.${nth}`, problem: `is a tag of "${other}"` });
      tags.set(tag, name);
    }
  }
  return problems;
}

export const retention = {
  category: 'retention',
  initial: { classes: [] } as RetentionState,
  decide: decideRetention,
  evolve: (_: RetentionState, { at, data: { classes, by, reason } }: RetentionEvent): RetentionState => ({
    classes,
    set: { by, reason, at },
  }),
} as const;

/** @returns undefined when the delivery names a class that the organization does not have */
export function classOf(
  { classes }: RetentionState,
  { named, tags }: { readonly named: string | undefined; readonly tags: readonly string[] },
): string | undefined {
  if (named !== undefined) return named === STANDARD || classes.some(({ name }) => name === named) ? named : undefined;
  if (classes.length === 0 || tags.length === 0) return STANDARD;
  return classes.find((one) => one.tags?.some((tag) => tags.includes(tag)))?.name ?? STANDARD;
}

const DURATION = /^P(?=\d)(?:(\d{1,3})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?$/;

/**
 * The day before which everything is old enough: `now` less the duration, by the calendar in UTC.
 *
 * @returns `YYYY-MM-DD`; undefined when it is no duration of 1 day to 100 years
 */
export function keptSince(keep: string, now: Date): string | undefined {
  const parts = DURATION.exec(keep);
  if (!parts) return undefined;
  const [years, months, weeks, days] = parts.slice(1).map((part) => Number(part ?? 0)) as [
    ...[number, number, number, number],
  ];
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  const since = Date.UTC(year - years, month - months, day - weeks * 7 - days);
  const isInRange = since <= Date.UTC(year, month, day - 1) && since >= Date.UTC(year - 100, month, day);
  return isInRange ? dayOf(since) : undefined;
}

const PREFIX = 'kept:';

/**
 * Whose key protects a delivery: its owner's, for what was requested in one week under one class. So what is too old goes
 * with its key, and what is newer stays. A week is the grain because each makes a key for everybody who was written to.
 *
 * @param owner a person, several, a destination or an organization
 */
export function keptSubject(owner: string, retentionClass: string, requestedAt: Date): string {
  const daysLeft = (7 - requestedAt.getUTCDay()) % 7;
  return `${PREFIX}${dayOf(requestedAt.getTime() + daysLeft * DAY_MS)}:${retentionClass}:${owner}`;
}

/** The class that a delivery is kept under, by whose key protects it; undefined for what was requested before there were classes. */
export const classKeptUnder = (deliverySubject: string): string | undefined =>
  deliverySubject.startsWith(PREFIX) ? deliverySubject.split(':', 3)[2] : undefined;

/** Whose key protects a person's address in a delivery: the person's, for the same week and class. */
export function keptWith(deliverySubject: string, person: string): string {
  if (!deliverySubject.startsWith(PREFIX)) return person;
  return deliverySubject.split(':', 3).join(':').concat(':', person);
}

/** Instead of a subject: what the event says of somebody who was erased is not recorded, and no key is made for it. */
export const FORGOTTEN = 'forgotten';

/** The person whose key it is, or undefined: a group's key names its members, a place's is nobody's. */
export const personOf = (subject: string): string | undefined => PERSON.exec(subject)?.[1];
const PERSON = /^(?:kept:[^:]*:[^:]*:)?(person:.+)$/;
