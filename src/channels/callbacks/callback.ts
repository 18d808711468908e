import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { parsed } from '../net/json.js';
import { withoutAddresses } from '../outcome.js';

/** What readers of providers' callbacks share. */

/** How far the time in a signature may be from ours: older ones could be replays. Reports may be as late as they like. */
const TOLERANCE_MS = 5 * 60_000;

export const refused = (reason: string): Callback => ({ kind: 'refused', reason });
export const verified = (reports: readonly ProviderReport[]): Callback => ({
  kind: 'verified',
  reports: reports.map(clean),
});

/** Words that are kept for years: no address, no number, one line; and a code that is one. */
function clean({ code, detail, ...report }: ProviderReport): ProviderReport {
  return {
    ...report,
    ...(code !== undefined && { code: code.replace(/[^A-Z0-9]+/g, '_').slice(0, 60) }),
    ...(detail !== undefined && { detail: withoutAddresses(detail).slice(0, 300) }),
  };
}

export function header(request: CallbackRequest, name: string): string {
  const value = request.headers[name];
  return (Array.isArray(value) ? value[0] : value) ?? '';
}

/** @param seconds since 1970, as text */
export const isTimely = (seconds: string, now: Date): boolean =>
  /^\d{1,12}$/.test(seconds) && Math.abs(Number(seconds) * 1_000 - now.getTime()) <= TOLERANCE_MS;

/** Takes as long for every wrong answer. */
export const isSame = (given: string, expected: string): boolean =>
  timingSafeEqual(createHash('sha256').update(given).digest(), createHash('sha256').update(expected).digest());

export const hmac = (
  algorithm: 'sha1' | 'sha256',
  key: string | Buffer,
  text: string | Buffer,
  encoding: 'hex' | 'base64',
): string => createHmac(algorithm, key).update(text).digest(encoding);

/** A JSON object, or undefined. */
export function objectIn(body: Buffer): JsonObject | undefined {
  const value = jsonIn(body);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
}

export const jsonIn = (body: Buffer): unknown => parsed(body.toString('utf8'));

export const textOf = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : typeof value === 'number' ? String(value) : undefined;

/** A time from outside, RFC 3339 or seconds since 1970; `now` where it cannot be one. */
export function timeOf(value: unknown, now: Date): Date {
  const time = new Date(typeof value === 'number' ? value * 1_000 : typeof value === 'string' ? value : Number.NaN);
  return Number.isNaN(time.getTime()) || time.getTime() < 0 ? now : time;
}

/** What is left out where a provider does not say it. */
export const given = <T extends object>(fields: T): { [Key in keyof T]: Exclude<T[Key], undefined> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
