import { hash, randomUUID } from 'node:crypto';
import { hexDigit, writeUuid } from '../domain/uuid.js';

/** Namespace of every id Waybill derives; made once at random and never to change. */
const WAYBILL = '0b5b5f0e-3a54-4c0b-9c8e-2f3f2f6d7a11';

/** UUID version 5 (RFC 9562 section 5.5): SHA-1 of namespace and name. Made several times for each delivery, so without detours. */
export function derivedId(namespace: string, name: string): string {
  const nameBytes = Buffer.byteLength(name);
  const input = inputOf(nameBytes);
  if (!writeUuid(namespace, input, 0)) throw new Error(`${JSON.stringify(namespace)} is not a uuid`);
  input.write(name, 16, 'utf8');
  const hex = hash('sha1', input);
  const variant = '89ab'[hexDigit(hex.charCodeAt(16)) & 3];
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** Written over each time. */
const inputs = new Map<number, Buffer>();
const LONGEST_KEPT = 128;

function inputOf(nameBytes: number): Buffer {
  const kept = inputs.get(nameBytes);
  if (kept) return kept;
  const input = Buffer.alloc(16 + nameBytes);
  if (nameBytes <= LONGEST_KEPT) inputs.set(nameBytes, input);
  return input;
}

export const newId = (): string => randomUUID();

/**
 * The id of a new delivery: UUID version 8 (RFC 9562 section 5.8). One random digit, which says the partition, then the time
 * in 44 bits of milliseconds, then 74 random bits: what is stored at one time under its id is stored in few places of
 * every index, one for each partition, not all over it.
 */
export function newDeliveryId(now: Date): string {
  const random = randomUUID();
  const time = now.getTime().toString(16).padStart(TIME_DIGITS, '0');
  return `${random.charAt(0)}${time.slice(0, 7)}-${time.slice(7)}-8${random.slice(15)}`;
}

const TIME_DIGITS = 11;

/** The id of the delivery that an organization's idempotency key stands for. */
export const deliveryIdForKey = (organizationId: string, key: string): string =>
  derivedId(derivedId(WAYBILL, `organization:${organizationId}`), `delivery:${key}`);

/** The id of the stream that says who has access to an organization. */
export const accessId = (organizationId: string): string => derivedId(WAYBILL, `access:${organizationId}`);

/** The id of the stream of a configured provider. */
export const providerId = (name: string): string => derivedId(WAYBILL, `provider:${name}`);

/** The id of a data subject's own stream. */
export const subjectId = (subject: string): string => derivedId(WAYBILL, `subject:${subject}`);
/** The id of the stream that says whether an organization may still send to somebody; the name is the organization's own. */
export const suppressionId = (channel: string, person: string): string =>
  derivedId(WAYBILL, `suppression:${channel}:${person}`);

/** The id of the stream that says how long an organization keeps what. */
export const retentionId = (organizationId: string): string => derivedId(WAYBILL, `retention:${organizationId}`);

/** The id of the stream that says what an organization disposed of in a year. */
export const disposalId = (organizationId: string, year: number): string =>
  derivedId(WAYBILL, `disposal:${year}:${organizationId}`);

/** Item `index` of a bulk has the identity of key and index; no single request's key can be the same. */
export const bulkItemKey = (key: string, index: number): string => `${key}\u0000${index}`;

/** The same each time the command is carried out: a log that has the event already takes it for what it is. */
export const eventId = (commandId: string, index: number): string =>
  index === 0 ? commandId : derivedId(commandId, String(index));
