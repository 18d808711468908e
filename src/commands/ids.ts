import { hash, randomUUID } from 'node:crypto';

/** Namespace of every id Waybill derives; made once at random and never to change. */
const WAYBILL = '0b5b5f0e-3a54-4c0b-9c8e-2f3f2f6d7a11';

/** UUID version 5 (RFC 9562 section 5.5): SHA-1 of namespace and name. */
export function derivedId(namespace: string, name: string): string {
  const nameBytes = Buffer.byteLength(name);
  const input = Buffer.allocUnsafe(16 + nameBytes);
  input.write(namespace.replaceAll('-', ''), 0, 'hex');
  input.write(name, 16, 'utf8');
  const digest = hash('sha1', input, 'buffer');
  digest[6] = ((digest[6] as number) & 0x0f) | 0x50;
  digest[8] = ((digest[8] as number) & 0x3f) | 0x80;
  const hex = digest.toString('hex', 0, 16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

export const newId = (): string => randomUUID();

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

export const eventId = (commandId: string, index: number): string => derivedId(commandId, String(index));

export const isUuid = (text: string): boolean =>
  /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text);
