import { z } from 'zod';
import type { OutgoingMessage } from '../channel.js';
import { template } from '../config.js';
import { type Rejected, rejected } from '../outcome.js';
import { render, templateError, variablesOf } from './liquid.js';

/** What every provider of calls has in common. */

/** For the schema of an adapter to spread into its own. */
export const voiceFields = {
  bodyTemplate: template(10_000)
    .optional()
    .describe('Liquid template of what is said; wins over the text of the request.'),
  language: z
    .string()
    .regex(/^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$/, 'must be a language tag such as de-DE')
    .optional()
    .describe('Language of the text, a BCP 47 tag: `de-DE`.')
    .meta({ default: 'en-US' }),
};

export interface VoiceConfig {
  readonly bodyTemplate?: string;
  readonly language?: string;
}

/** What is to be said, from the destination's template or the request. */
export function spokenTextOf(message: OutgoingMessage, { bodyTemplate }: VoiceConfig): string | Rejected {
  const rendered = bodyTemplate === undefined ? undefined : render(bodyTemplate, variablesOf(message));
  if (rendered?.kind === 'failed') return templateError('bodyTemplate', rendered.problem);
  const text = (rendered?.text ?? message.content.text ?? '').trim();
  return text === '' ? rejected('VALIDATION', 'EMPTY_BODY', 'a call needs a text') : text;
}
