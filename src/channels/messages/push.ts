import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Json, JsonObject } from '../../domain/vocabulary.js';
import type { OutgoingMessage } from '../channel.js';
import { template } from '../config.js';
import { type Rejected, rejected } from '../outcome.js';
import { render, templateError, variablesOf } from './liquid.js';

/** What every provider of push messages has in common. */

/** Where neither request nor configuration say how long a message is kept for a device that is off: four weeks. */
export const LONGEST_SECONDS = 28 * 86_400;

/** For the schema of an adapter to spread into its own. */
export const pushFields = {
  title: template(1_000).optional().describe('Liquid template of the heading; wins over the subject of the request.'),
  bodyTemplate: template(10_000).optional().describe('Liquid template of the text; wins over the text of the request.'),
  ttlSeconds: z
    .int()
    .min(0)
    .max(LONGEST_SECONDS)
    .optional()
    .describe(
      'How long the message is kept for a device that is off, in seconds; never beyond the expiry of the request. 0: now or never.',
    )
    .meta({ default: LONGEST_SECONDS }),
};

export interface PushConfig {
  readonly title?: string;
  readonly bodyTemplate?: string;
  readonly ttlSeconds?: number;
}

export interface PushContent {
  readonly title?: string;
  readonly body?: string;
  /** For the app, not shown. A value that is no object is under `data`. */
  readonly data?: JsonObject;
}

/** What is shown and what goes along, from the destination's templates or the request. */
export function pushContentOf(message: OutgoingMessage, config: PushConfig): PushContent | Rejected {
  const variables = variablesOf(message);
  const { content } = message;
  const title = config.title === undefined ? undefined : render(config.title, variables);
  if (title?.kind === 'failed') return templateError('title', title.problem);
  const body = config.bodyTemplate === undefined ? undefined : render(config.bodyTemplate, variables);
  if (body?.kind === 'failed') return templateError('bodyTemplate', body.problem);
  const shown = { title: title?.text ?? content.subject ?? '', body: body?.text ?? content.text ?? '' };
  const { data } = content;
  if (shown.title === '' && shown.body === '' && data === undefined)
    return rejected('VALIDATION', 'EMPTY_BODY', 'a push message needs a subject, a text or data');
  return {
    ...(shown.title !== '' && { title: shown.title }),
    ...(shown.body !== '' && { body: shown.body }),
    ...(data !== undefined && { data: isObject(data) ? data : { data } }),
  };
}

/** How long the provider may try, in seconds. */
export function secondsToLive(
  { expiresAt }: OutgoingMessage,
  { ttlSeconds = LONGEST_SECONDS }: PushConfig,
  now: Date,
): number {
  const left = expiresAt === undefined ? ttlSeconds : Math.floor((Date.parse(expiresAt) - now.getTime()) / 1_000);
  return Math.max(0, Math.min(left, ttlSeconds));
}

/** What a repetition of the same attempt has in common with the first: a device that gets both shows one. Hexadecimal. */
export const repetitionKey = (attemptKey: string, length: number): string =>
  createHash('sha256').update(attemptKey).digest('hex').slice(0, length);

/** The same for every attempt to send the same message: a digest as UUID (RFC 9562, 5.8). */
export function uuidOf(attemptKey: string): string {
  const hex = repetitionKey(attemptKey, 32);
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 0x3) | 0x8).toString(16);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
}

/** @returns a refusal where there are more bytes than fit */
export function tooLarge(bytes: number, limit: number): Rejected | undefined {
  return bytes <= limit
    ? undefined
    : rejected('VALIDATION', 'TOO_LARGE', `the message has ${bytes} bytes, ${limit} fit`);
}

const isObject = (value: Json): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
