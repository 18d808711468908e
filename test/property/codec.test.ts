import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DataSubjectEvent } from '../../src/domain/data-subject.js';
import type { DeliveryEvent } from '../../src/domain/delivery-events.js';
import type { DestinationEvent } from '../../src/domain/destination.js';
import type { DisposalEvent } from '../../src/domain/disposal.js';
import type { DownloadEvent } from '../../src/domain/download.js';
import type { InboxEvent } from '../../src/domain/inbox.js';
import type { ProviderEvent } from '../../src/domain/provider.js';
import type { RetentionEvent } from '../../src/domain/retention.js';
import { RETRY_STRATEGIES } from '../../src/domain/retry-policy.js';
import { SUPPRESSION_REASONS, type SuppressionEvent } from '../../src/domain/suppression.js';
import { CHANNELS, ERROR_CATEGORIES, type JsonObject, PRIORITIES } from '../../src/domain/vocabulary.js';
import { EventCodec, type FieldProtection, UndecodableEvent } from '../../src/event-store/codec.js';
import { decodeRecord, encodeRecord, LogCorrupted } from '../../src/event-store/embedded-record.js';
import type { RecordedEvent } from '../../src/event-store/event-store.js';
import { SealedFields } from '../../src/event-store/sealed-fields.js';
import { MemoryKeys } from '../support/keys.js';

type Event =
  | DataSubjectEvent
  | DeliveryEvent
  | DestinationEvent
  | DisposalEvent
  | DownloadEvent
  | InboxEvent
  | ProviderEvent
  | RetentionEvent
  | SuppressionEvent;
type DataOf<Type extends Event['type']> = Extract<Event, { type: Type }>['data'];

const text = fc.string({ unit: 'binary' });
const some = fc.nat({ max: 1e6 });
const instant = fc
  .date({ min: new Date(0), max: new Date('2999-12-31'), noInvalidDate: true })
  .map((date) => date.toISOString());
/** As it comes out of JSON: without -0, which JSON does not have. */
const json = fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)));
const object = fc.dictionary(text, json).map((value) => JSON.parse(JSON.stringify(value)) as JsonObject);
const uuid = fc.uuid();
const failure = fc.record({ category: fc.constantFrom(...ERROR_CATEGORIES), code: text, message: text });
const route = fc.record(
  { channel: fc.constantFrom(...CHANNELS), destinationId: uuid, address: text, provider: text },
  { requiredKeys: ['channel'] },
);
const attempt = {
  leg: some,
  number: some,
  route: some,
  channel: fc.constantFrom(...CHANNELS),
  provider: text,
  startedAt: instant,
};
const retry = fc.record({
  strategy: fc.constantFrom(...RETRY_STRATEGIES),
  maxAttempts: some,
  initialDelayMs: some,
  maxDelayMs: some,
  multiplier: fc.integer({ min: 1, max: 10 }),
  jitter: fc.constant(0.1),
  scheduleMs: fc.array(some),
});
const definition = fc.record(
  {
    organizationId: uuid,
    label: text,
    type: fc.constantFrom(...CHANNELS),
    description: text,
    config: object,
    secrets: fc.dictionary(text, text),
    retry,
    isDefault: fc.boolean(),
  },
  { requiredKeys: ['organizationId', 'label', 'type', 'config', 'secrets', 'isDefault'] },
);
const circuit = { reason: text, until: instant, failingSince: instant, failures: some };
const report = {
  leg: some,
  round: some,
  route: some,
  provider: text,
  reportId: uuid,
  happenedAt: instant,
  recipient: text,
};
const nothing = fc.constant({});

const dataOf: { readonly [Type in Event['type']]: fc.Arbitrary<DataOf<Type>> } = {
  DeliveryRequested: fc.record(
    {
      organizationId: uuid,
      priority: fc.constantFrom(...PRIORITIES),
      legs: fc.array(fc.record({ leg: some, routes: fc.array(route), recipients: some })),
      content: fc.record({ subject: text, text, html: text, data: json }, { requiredKeys: [] }),
      personalization: object,
      tags: fc.array(text),
      metadata: json,
      idempotencyKey: text,
      fingerprint: text,
      scheduledAt: instant,
      dependsOn: fc.array(uuid),
      approval: fc.record({ approvers: fc.array(text), minimum: some, deadline: instant }),
    },
    { requiredKeys: ['organizationId', 'priority', 'legs', 'content', 'tags'] },
  ),
  ScheduleReached: nothing,
  DependencySatisfied: fc.record({ deliveryId: uuid }),
  DependencyFailed: fc.record({ deliveryId: uuid, failure }),
  ApprovalGranted: fc.record({ approver: text, comment: text }, { requiredKeys: ['approver'] }),
  ApprovalRejected: fc.record({ approver: text, reason: text }),
  ApprovalTimedOut: nothing,
  AttemptStarted: fc.record(attempt),
  AttemptSucceeded: fc.record({ ...attempt, delivered: fc.boolean(), warning: text }),
  AttemptFailed: fc.record({ ...attempt, failure, retryAfterMs: some }),
  AttemptInDoubt: fc.record({ ...attempt, resolution: fc.constantFrom('resend', 'hold') }),
  AttemptResolved: fc.record(
    { ...attempt, outcome: fc.constantFrom('sent', 'delivered', 'not-sent'), by: text, note: text },
    { requiredKeys: ['leg', 'number', 'route', 'channel', 'provider', 'startedAt', 'outcome', 'by'] },
  ),
  Delivered: fc.record(report),
  Bounced: fc.record({ ...report, failure }),
  Complained: fc.record(report),
  Opened: fc.record(report),
  Clicked: fc.record(report),
  OptedOut: fc.record(report),
  AddressSuppressed: fc.record(
    {
      organizationId: uuid,
      channel: fc.constantFrom(...CHANNELS),
      address: text,
      reason: fc.constantFrom(...SUPPRESSION_REASONS),
      by: text,
      deliveryId: uuid,
      note: text,
      keptAs: fc.constant('ada'),
    },
    { requiredKeys: ['organizationId', 'channel', 'address', 'reason', 'by'] },
  ),
  AddressReleased: fc.record({ by: text, note: text }, { requiredKeys: ['by'] }),
  RetryScheduled: fc.record({ leg: some, dueAt: instant, tried: fc.array(text) }, { requiredKeys: ['leg', 'dueAt'] }),
  FallbackChosen: fc.record({ leg: some, route: some, failure }),
  LegDeadLettered: fc.record({ leg: some, failure }),
  DeliveryRetried: fc.record({ legs: fc.array(some), round: some, by: text }),
  DeliveryCancelled: fc.record({ by: text, reason: text }, { requiredKeys: ['by'] }),
  DeliveryExpired: nothing,
  ProcessResumed: fc.record({ by: text, reason: text }),
  EventSkipped: fc.record({ revision: some, eventType: text, error: text, by: text, reason: text }),
  DestinationCreated: definition,
  DestinationUpdated: definition,
  DestinationSecretRotated: fc.record({ config: object, secrets: fc.dictionary(text, text) }),
  DestinationDisabled: fc.record({ reason: text }),
  DestinationEnabled: nothing,
  DestinationDeleted: nothing,
  DestinationCircuitOpened: fc.record(circuit),
  DestinationCircuitClosed: nothing,
  ProviderCircuitOpened: fc.record({ ...circuit, name: text, channel: fc.constantFrom(...CHANNELS) }),
  ProviderCircuitClosed: fc.record({ name: text }),
  SubjectErased: fc.record({ organizationId: uuid, subject: text, keys: fc.array(text), by: text, reason: text }),
  LegalHoldPlaced: fc.record({ subject: text, by: text, reason: text }),
  LegalHoldReleased: fc.record({ subject: text, by: text, reason: text }),
  RetentionSet: fc.record({
    organizationId: uuid,
    classes: fc.array(fc.record({ name: text, keep: text, tags: fc.array(text) }, { requiredKeys: ['name'] })),
    by: text,
    reason: text,
  }),
  DataDisposed: fc.record({
    ...{ organizationId: uuid, retention: text, keep: text, firstWeek: text, lastWeek: text },
    ...{ keys: fc.array(text), by: text },
  }),
  DownloadOffered: fc.record({
    ...{ organizationId: uuid, subject: fc.constant('ada'), deliveryId: uuid, place: text, expiresAt: instant },
    ...{ maxUses: some, isViewOnly: fc.boolean(), hasPassword: fc.boolean(), fileKey: text },
    files: fc.array(
      fc.record(
        { name: text, contentType: text, bytes: some, url: text },
        { requiredKeys: ['name', 'contentType', 'bytes'] },
      ),
    ),
    password: fc.record({ salt: text, hash: text }),
  }),
  DownloadAccessed: fc.record(
    { file: some, use: some, isCounted: fc.boolean(), mode: fc.constantFrom('view', 'download'), address: text },
    { requiredKeys: ['file', 'use', 'isCounted', 'mode'] },
  ),
  DownloadRefused: fc.record({ address: text }, { requiredKeys: [] }),
  InboxMessageStored: fc.record(
    {
      organizationId: uuid,
      subject: fc.constant('ada'),
      keptAs: fc.constant('ada'),
      deliveryId: uuid,
      content: fc.record({ title: text, text, data: json }, { requiredKeys: [] }),
      priority: fc.constantFrom(...PRIORITIES),
      expiresAt: instant,
    },
    { requiredKeys: ['organizationId', 'subject', 'deliveryId', 'content', 'priority', 'expiresAt'] },
  ),
  InboxMessageRead: fc.record({ person: text, by: text }),
  InboxMessageUnread: fc.record({ person: text, by: text }),
};

const envelope = fc.record(
  { organizationId: uuid, commandId: uuid, actor: text, correlationId: text, causationId: text, traceparent: text },
  { requiredKeys: ['organizationId', 'commandId', 'actor'] },
);

const recorded = (change: Partial<RecordedEvent> = {}): RecordedEvent => ({
  id: 'f0000000-0000-4000-8000-000000000001',
  type: 'ScheduleReached',
  data: {},
  metadata: { schemaVersion: '1', organizationId: 'a', occurredAt: '2026-03-02T12:00:00.000Z' },
  streamId: 'delivery-1',
  revision: 3,
  position: 7n,
  created: '2026-03-02T12:00:01.000Z',
  ...change,
});

describe('an event', () => {
  it.each(Object.entries(dataOf))(
    'of type %s comes out of the log as it went in',
    (type, arbitrary: fc.Arbitrary<object>) => {
      const keys = new MemoryKeys();
      const codec = new EventCodec(new SealedFields(keys));
      fc.assert(
        fc.property(arbitrary, instant, envelope, uuid, (data, at, origin, id) => {
          keys.prepare([{ subject: 'ada', organizationId: 'a' }]);
          const encoded = codec.encode({ type, at, data }, id, origin, { streamId: 'delivery-1', subject: 'ada' });
          const bytes = encodeRecord('delivery-1', 3, encoded, '2026-03-02T12:00:01.000Z');
          const { event, organizationId, recorded } = codec.decode(decodeRecord(7, bytes));
          expect(event).toEqual({ type, at, data });
          expect(organizationId).toBe(origin.organizationId);
          expect(recorded).toMatchObject({ id, streamId: 'delivery-1', revision: 3, position: 7n });
        }),
        { numRuns: 40 },
      );
    },
  );

  it('names who and what it came from, under the names that the stores know', () => {
    const origin = { organizationId: 'a', commandId: 'b', actor: 'ada', correlationId: 'c', causationId: 'd' };
    const { metadata } = new EventCodec().encode({ type: 'ScheduleReached', at: 'now', data: {} }, 'id', origin);
    expect(metadata).toEqual({
      schemaVersion: '1',
      organizationId: 'a',
      commandId: 'b',
      actor: 'ada',
      occurredAt: 'now',
      $correlationId: 'c',
      $causationId: 'd',
    });
  });

  it('is stored sealed and handed out open', () => {
    const backwards = (word: unknown) => [...String(word)].reverse().join('');
    const protection: FieldProtection = {
      prepare: () => undefined,
      seal: (_, data, { streamId }) => ({ sealed: backwards(data.approver), for: streamId }),
      open: (_, data, { streamId }) => (data.for === streamId ? { approver: backwards(data.sealed) } : {}),
    };
    const codec = new EventCodec(protection);
    const event = { type: 'ApprovalGranted', at: '2026-03-02T12:00:00.000Z', data: { approver: 'ada@example.com' } };
    const sealed = codec.encode(
      event,
      'id',
      { organizationId: 'a', commandId: 'b', actor: 'ada' },
      { streamId: 'delivery-1' },
    );
    expect(JSON.stringify(sealed.data)).not.toContain('ada@');
    expect(codec.decode(recorded(sealed)).event).toEqual(event);
  });
});

describe('what is not in the table', () => {
  // The names that every object has are no event types either.
  const unknown = ['DeliveryTeleported', '', 'constructor', 'toString', '__proto__'];

  it.each(unknown)('is not recorded: type "%s"', (type) => {
    const encode = () =>
      new EventCodec().encode({ type, at: '', data: {} }, 'id', { organizationId: 'a', commandId: 'b', actor: 'c' });
    expect(encode).toThrow('is not in the codec');
  });

  it.each(unknown)('is not understood, and said so: type "%s"', (type) => {
    expect(() => new EventCodec().decode(recorded({ type }))).toThrow(UndecodableEvent);
  });

  it.each(['2', '0', '-1', '1.5', 'one', ''])('is not understood, and said so: version "%s"', (schemaVersion) => {
    const event = recorded({ metadata: { schemaVersion } });
    expect(() => new EventCodec().decode(event)).toThrow(UndecodableEvent);
    expect(() => new EventCodec().decode(event)).toThrow('position 7');
  });
});

describe('a stream', () => {
  const at = '2026-03-02T12:00:00.000Z';
  const metadata = { schemaVersion: '1', organizationId: 'a', occurredAt: at };
  const row = (revision: number, type: string, data = {}) => recorded({ revision, type, data, metadata });
  const skip = (revision: number, at: number) => row(at, 'EventSkipped', { revision });
  const typesOf = (...stream: RecordedEvent[]) =>
    new EventCodec().fold(stream, (types: string[], { type }) => [...types, type], []);

  it('with what cannot be understood cannot be folded, until an operator has it skipped', () => {
    const poisoned = [row(0, 'ScheduleReached'), row(1, 'DeliveryTeleported'), row(2, 'DeliveryExpired')];
    expect(() => typesOf(...poisoned)).toThrow(UndecodableEvent);
    expect(typesOf(...poisoned, skip(1, 3))).toEqual(['ScheduleReached', 'DeliveryExpired', 'EventSkipped']);
    expect(() => typesOf(...poisoned, skip(1, 3), row(4, 'DeliveryTeleported'))).toThrow(UndecodableEvent);
  });

  it('in which an event makes no sense cannot be folded either, and the event is named', () => {
    const evolve = (_: number, { type }: { type: string }) => {
      if (type === 'DeliveryExpired') throw new Error('it has not begun');
      return 1;
    };
    const fold = () => new EventCodec().fold([row(0, 'ScheduleReached'), row(1, 'DeliveryExpired')], evolve, 0);
    expect(fold).toThrow(expect.objectContaining({ name: 'UndecodableEvent', recorded: row(1, 'DeliveryExpired') }));
    expect(fold).toThrow('it has not begun');
  });
});

it('a record with any one bit changed is found out', () => {
  const bytes = encodeRecord('delivery-1', 3, recorded(), '2026-03-02T12:00:01.000Z');
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = Buffer.from(bytes);
    damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
    expect(() => decodeRecord(7, damaged)).toThrow(LogCorrupted);
  }
  for (let length = 0; length < bytes.length; length++)
    expect(() => decodeRecord(7, bytes.subarray(0, length))).toThrow(LogCorrupted);
});
