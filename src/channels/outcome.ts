import type { ErrorCategory } from '../domain/vocabulary.js';
import type { OutgoingMessage, SendOutcome } from './channel.js';
import { ProxyRefusal } from './net/http-proxy.js';

/** What the adapters share in saying how it went: the words of a rejection, and keeping those words clean. */

export type Rejected = Extract<SendOutcome, { kind: 'rejected' }>;
export type Accepted = Extract<SendOutcome, { kind: 'accepted' }>;

/** Bound of `detail`, in characters, as the port promises. */
const DETAIL_LIMIT = 500;

/** A run of so many characters that also occurs in the content is taken for a quotation of it. */
const QUOTATION = 8;
/** A secret or a value of the content that is shorter ("a", "42") would shred every sentence it occurs in. */
const SHORTEST_VALUE = 3;
/** Digits that make a telephone number; an SMTP reply with its enhanced code has six. */
const PHONE_DIGITS = 7;

export function rejected(
  category: ErrorCategory,
  code: string,
  detail: string,
  extra: Pick<Rejected, 'retryAfterMs' | 'gone' | 'inDoubt'> = {},
): Rejected {
  return { kind: 'rejected', category, code, detail: detail.slice(0, DETAIL_LIMIT), ...extra };
}

/** Taken, and not yet known to be delivered. `id` is the provider's own where it is a text. */
export const accepted = (id?: unknown): Accepted =>
  typeof id === 'string' && id !== ''
    ? { kind: 'accepted', delivered: false, providerMessageId: id }
    : { kind: 'accepted', delivered: false };

/**
 * A provider's own words, fit to be kept for years: no secret, no piece of the content, no e-mail address, no phone
 * number. Details are recorded in the clear, while content is encrypted and can be erased; a provider that quotes
 * what it refuses would otherwise carry one into the other.
 */
export function presentable(words: string, message: OutgoingMessage, secrets: readonly string[] = []): string {
  const { attachments: _, ...content } = message.content;
  const values = [...leaves(content), ...leaves(message.personalization)];
  const whole = [...secrets, ...values]
    .filter((value) => value.length >= SHORTEST_VALUE && words.includes(value))
    .sort((a, b) => b.length - a.length); // the longest first, so that no part of it stays behind
  const unquoted = whole.reduce((text, value) => text.replaceAll(value, HIDDEN), words).slice(0, DETAIL_LIMIT);
  return withoutAddresses(withoutQuotations(unquoted, values.join('\n').toLowerCase()));
}

/** Words in one line, without e-mail addresses and phone numbers. */
export function withoutAddresses(words: string): string {
  return words
    .replace(/[^\s<>"'(),:;]+@[^\s<>"'(),:;]+/g, '[address]')
    .replace(/\+?\d[\d ().-]+\d/g, (text) => (text.replace(/\D/g, '').length < PHONE_DIGITS ? text : '[number]'))
    .replace(/[\s\p{Cc}]+/gu, ' ')
    .trim();
}

const HIDDEN = '[hidden]';

function withoutQuotations(words: string, source: string): string {
  const lower = words.toLowerCase();
  let clean = '';
  for (let start = 0; start < words.length; ) {
    let end = start + QUOTATION;
    if (end <= words.length && source.includes(lower.slice(start, end))) {
      while (end < words.length && source.includes(lower.slice(start, end + 1))) end += 1;
      clean += HIDDEN;
      start = end;
    } else {
      clean += words[start];
      start += 1;
    }
  }
  return clean;
}

function leaves(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  if (typeof value === 'number') return [String(value)];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(leaves);
}

/** Codes that a library made up, in the words of this house. Every other code (ENOTFOUND, CERT_HAS_EXPIRED) stays. */
const NETWORK_CODES: Readonly<Record<string, string>> = {
  UND_ERR_CONNECT_TIMEOUT: 'CONNECT_TIMEOUT',
  UND_ERR_SOCKET: 'CONNECTION_CLOSED',
  UND_ERR_DESTROYED: 'ABORTED',
  UND_ERR_CLOSED: 'ABORTED',
  ETIMEDOUT: 'TIMEOUT',
};

/**
 * No answer came from `host`. `inDoubt` when the request had left: the other side may have acted on it.
 * An address that may not be reached is a fault of the configuration, everything else one of the network.
 */
export function unanswered(error: unknown, host: string, inDoubt: boolean): Rejected {
  const { name, code, message } = error as { name?: string; code?: unknown; message?: string };
  const extra = inDoubt ? { inDoubt } : {};
  if (code === 'BLOCKED_ADDRESS') return rejected('CONFIGURATION', 'BLOCKED_ADDRESS', message ?? '');
  if (name === 'TimeoutError') return rejected('NETWORK', 'TIMEOUT', `${host} did not answer in time`, extra);
  if (name === 'AbortError') return rejected('NETWORK', 'ABORTED', `the call to ${host} was stopped`, extra);
  if (error instanceof ProxyRefusal) {
    const category = error.status === 407 ? 'AUTHENTICATION' : error.status < 500 ? 'CONFIGURATION' : 'NETWORK';
    return rejected(category, error.code, `no way to ${host}: ${error.message}`);
  }
  if (code === 'UND_ERR_INVALID_ARG') {
    return rejected('CONFIGURATION', 'INVALID_REQUEST', `no request can be made of this configuration for ${host}`);
  }
  const known = typeof code === 'string' && /^[A-Z][A-Z0-9_]*$/.test(code) ? code : 'NETWORK_ERROR';
  const translated = NETWORK_CODES[known] ?? known;
  return rejected('NETWORK', translated, `no answer from ${host}: ${translated}`, extra);
}

/** The reason a signal gives, told apart by name: its time was over, or somebody stopped it. */
export function abortReason(signal: Pick<AbortSignal, 'reason'>): Error {
  const reason: unknown = signal.reason;
  if (reason instanceof Error && reason.name === 'TimeoutError') return reason;
  return new DOMException('stopped', 'AbortError');
}
