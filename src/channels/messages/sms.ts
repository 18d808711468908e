import { isPossiblePhoneNumber } from 'libphonenumber-js/min';
import { z } from 'zod';
import type { OutgoingMessage } from '../channel.js';
import { checked, template } from '../config.js';
import { type Rejected, rejected } from '../outcome.js';
import { render, templateError, variablesOf } from './liquid.js';

/** What every provider of text messages has in common. */

/** E.164, and of a length that its country has. Whether anybody has the number only the provider can say. */
export function problemWithNumber(text: string): string | undefined {
  const good = /^\+[1-9]\d{6,14}$/.test(text) && isPossiblePhoneNumber(text);
  return good ? undefined : 'must be a number as +15551234567';
}

/** Up to 11 letters, digits and spaces with at least one letter (GSM 03.40, 9.1.2.5): shown in place of a number. */
export const isSenderName = (text: string): boolean => /^(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}$/.test(text);
export const isShortCode = (text: string): boolean => /^\d{3,8}$/.test(text);

/** The alphabet of 3GPP TS 23.038, 6.2.1; its extension (6.2.1.1) takes two places for a character. */
const GSM_7 = new Set(
  '@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !"#¤%&\'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà',
);
const GSM_7_EXTENSION = new Set('\f^{}\\[~]|€');

/** For the schema of an adapter to spread into its own. @param segments that the provider takes for one text */
export const smsFields = (segments: number) => ({
  to: checked(problemWithNumber).describe('The recipient, as +15551234567.'),
  bodyTemplate: template(10_000).optional().describe('Liquid template of the text; wins over the text of the request.'),
  maxSegments: z
    .int()
    .min(1)
    .max(segments)
    .optional()
    .describe('Segments that one text may make; a longer one is refused.')
    .meta({ default: segments }),
});

export interface Segments {
  readonly encoding: 'GSM-7' | 'UCS-2';
  /** Places taken: septets of GSM-7, 16-bit units of UCS-2. */
  readonly length: number;
  /** Messages that are sent and charged. */
  readonly count: number;
}

/**
 * How a text is cut: 160 septets or 70 units in one message; in several, 153 or 67 each, as every part carries a header
 * (3GPP TS 23.040, 9.2.3.24.1). A character of two places is never cut in half.
 */
export function segmentsOf(text: string): Segments {
  const characters = [...text];
  const isGsm = characters.every((character) => GSM_7.has(character) || GSM_7_EXTENSION.has(character));
  const sizes = characters.map((character) => (isGsm ? (GSM_7_EXTENSION.has(character) ? 2 : 1) : character.length));
  const length = sizes.reduce((sum, size) => sum + size, 0);
  const [single, part] = isGsm ? [160, 153] : [70, 67];
  const encoding = isGsm ? 'GSM-7' : 'UCS-2';
  if (length <= single) return { encoding, length, count: length === 0 ? 0 : 1 };
  let count = 1;
  let used = 0;
  for (const size of sizes) {
    if (used + size > part) {
      count += 1;
      used = 0;
    }
    used += size;
  }
  return { encoding, length, count };
}

/** What a text will cost, in the unit of the price. */
export const costOf = (text: string, pricePerSegment: number): number => segmentsOf(text).count * pricePerSegment;

/** The text of a message, from the destination's template or the request. */
export function textOf(message: OutgoingMessage, limit: { readonly segments: number }): string | Rejected {
  const { bodyTemplate } = message.config;
  const rendered = typeof bodyTemplate === 'string' ? render(bodyTemplate, variablesOf(message)) : undefined;
  if (rendered?.kind === 'failed') return templateError('bodyTemplate', rendered.problem);
  const text = rendered?.text ?? message.content.text ?? '';
  if (text.trim() === '') return rejected('VALIDATION', 'EMPTY_BODY', 'a text message needs a text');
  const { count } = segmentsOf(text);
  if (count <= limit.segments) return text;
  return rejected('VALIDATION', 'TOO_LARGE', `the text makes ${count} segments, ${limit.segments} are allowed`);
}
