import type { FieldProblem, Json } from '../../domain/vocabulary.js';

/** Header fields of e-mail: which a sender may add, and those for unsubscribing. */

/** Field names are printable ASCII without the colon (RFC 5322, 3.6.8). */
const NAME = /^[\x21-\x39\x3b-\x7e]{1,76}$/;
/** Lines have at most 998 characters (RFC 5322, 2.1.1); the name and `: ` count too. */
const VALUE_LIMIT = 900;
const HEADERS = 50;

/** Fields that say who wrote what to whom and which way it went: set here, by the servers, or not at all. */
const RESERVED =
  /^(from|to|cc|bcc|subject|date|message-id|reply-to|sender|return-path|received|delivered-to|mime-version|dkim-signature|authentication-results|list-unsubscribe|list-unsubscribe-post|(content|resent|arc|x-sg|x-mailgun|x-ses)-.*)$/i;

/** What is wrong with header fields of a sender's own; `path` of each problem is the field's name. */
export function headerProblems(headers: { readonly [name: string]: Json }): FieldProblem[] {
  const entries = Object.entries(headers);
  if (entries.length > HEADERS) return [{ path: '', problem: `must not be more than ${HEADERS}` }];
  return entries.flatMap(([path, value]) => {
    const problem = problemWithHeader(path, value);
    return problem === undefined ? [] : [{ path, problem }];
  });
}

function problemWithHeader(name: string, value: Json): string | undefined {
  if (!NAME.test(name)) return 'is not a header name';
  if (RESERVED.test(name)) return 'is set by Waybill or by mail servers';
  if (typeof value !== 'string') return 'must be text';
  if (value.length > VALUE_LIMIT) return `must have at most ${VALUE_LIMIT} characters`;
  // A line break would end the field and begin another one of somebody else's choice.
  return /\p{Cc}/u.test(value) ? 'must be one line without control characters' : undefined;
}

/** `url` is called by the mailbox with a POST when its owner wants no more (RFC 8058), `mailto` gets a letter (RFC 2369). */
export interface Unsubscribe {
  readonly url?: string;
  readonly mailto?: string;
}

/** @returns the fields, or undefined when the URL is none that can stand in one */
export function unsubscribeHeaders({ url, mailto }: Unsubscribe): [string, string][] | undefined {
  // Commas and angle brackets are what separates the addresses of the field.
  if (url !== undefined && (!URL.canParse(url) || !/^https:\/\/[^\s<>,\p{Cc}]+$/u.test(url))) return undefined;
  const ways = [...(url === undefined ? [] : [`<${url}>`]), ...(mailto === undefined ? [] : [`<mailto:${mailto}>`])];
  if (ways.length === 0) return [];
  const list: [string, string] = ['List-Unsubscribe', ways.join(', ')];
  return url === undefined ? [list] : [list, ['List-Unsubscribe-Post', 'List-Unsubscribe=One-Click']];
}
