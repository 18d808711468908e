import { openEventReader } from '../app/event-log.js';
import { EventCodec } from '../event-store/codec.js';
import type { EventStoreLocation, RecordedEvent } from '../event-store/event-store.js';
import { closedFields } from '../event-store/sealed-fields.js';
import { deliveryRow } from '../projections/deliveries.js';
import { destinationRow } from '../projections/destinations.js';
import { deliveries, destinations, type StreamKind } from '../projections/views.js';
import { say } from './log-output.js';

export interface ReplayOptions {
  readonly stream: string;
  readonly asOf?: string;
  readonly json?: boolean;
}

interface Step {
  readonly position: string;
  readonly revision: number;
  readonly type: string;
  readonly recordedAt: string;
  readonly actor: string | undefined;
  readonly data: unknown;
  /** After this event; undefined where there is nothing to show of this kind of stream, or it was passed over. */
  readonly state: object | undefined;
}

/**
 * Prints what happened in a stream, and what state each event led to, from the log alone: Waybill may be running or not.
 * What is sealed stays closed: no key is needed.
 *
 * @param log the folder of the embedded log, or the EventStoreDB
 * @throws Error, one line, when there is no such stream, or a time or position that cannot be
 */
export async function replay(log: EventStoreLocation, { stream, asOf, json = false }: ReplayOptions): Promise<void> {
  const isIncluded = untilOf(asOf);
  const reader = await openEventReader(log);
  try {
    const all = await reader.readStream(stream);
    if (all.length === 0) throw new Error(`There is no stream ${stream} in this log.`);
    const recorded = all.filter(isIncluded);
    if (recorded.length === 0)
      throw new Error(`The stream ${stream} had no event yet: its first is of ${all[0]?.created}.`);
    for (const step of stepsOf(stream, recorded)) {
      if (json) say(JSON.stringify(step));
      else print(step);
    }
  } finally {
    await reader.close();
  }
}

/** Up to a time or a position, both inclusive. */
function untilOf(asOf: string | undefined): (event: RecordedEvent) => boolean {
  if (asOf === undefined) return () => true;
  if (/^\d{1,19}$/.test(asOf)) return ({ position }) => position <= BigInt(asOf);
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(asOf) ? Date.parse(asOf) : Number.NaN;
  if (Number.isNaN(time))
    throw new Error('--as-of: must be a time with offset such as 2026-11-21T08:30:00Z, or a log position');
  return ({ created }) => Date.parse(created) <= time;
}

function* stepsOf(stream: string, recorded: readonly RecordedEvent[]): Generator<Step> {
  const codec = new EventCodec(closedFields);
  const understood = new Map(codec.decodeStream(recorded).map((decoded) => [decoded.recorded.revision, decoded]));
  const shown = [deliveries, destinations].find(({ prefix }) => stream.startsWith(prefix)) as
    | StreamKind<object, never>
    | undefined;
  let view: object | undefined;
  for (const event of recorded) {
    const decoded = understood.get(event.revision);
    if (decoded && shown) view = shown.fold(view, stream.slice(shown.prefix.length), decoded as never);
    const { position, revision, type, created, metadata } = event;
    const state =
      view && (shown?.prefix === deliveries.prefix ? deliveryRow(view as never) : destinationRow(view as never));
    const data = decoded?.event.data ?? event.data;
    yield {
      ...{ position: String(position), revision, type, recordedAt: created, actor: metadata.actor },
      ...{ data, state: decoded ? state : undefined },
    };
  }
}

function print({ position, revision, type, recordedAt, actor, data, state }: Step): void {
  say(`${recordedAt}  ${type}  (revision ${revision}, position ${position}${actor ? `, by ${actor}` : ''})`);
  const facts = Object.entries(data as object).filter(([, value]) => value !== undefined);
  for (const [name, value] of facts) say(`    ${name}: ${short(value)}`);
  if (state) say(`  = ${summary(state)}\n`);
}

const LONGEST = 160;

function short(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** What a person wants to know of a delivery or destination at a glance. */
function summary(state: object): string {
  const { status, holds, legs, enabled, disabledReason } = state as Record<string, unknown>;
  if (status === undefined) return enabled ? 'enabled' : `disabled${disabledReason ? `: ${disabledReason}` : ''}`;
  const parts = (legs as { id: string; channel: string; status: string; attempts: number }[]).map(
    (leg) =>
      `leg ${leg.id.slice(leg.id.lastIndexOf('-') + 1)} ${leg.channel} ${leg.status} after ${leg.attempts} attempts`,
  );
  const waits = (holds as { reason: string }[]).map(({ reason }) => `held for ${reason}`);
  return [status, ...waits, ...parts].join('; ');
}
