import type { OutgoingMessage } from '../channel.js';
import { checked } from '../config.js';

/**
 * Where a file goes: `/audit-logs/{organizationId}/{year}/{month}/{day}/`. All values are fixed when the delivery is
 * requested, so that every attempt writes the same file: that is what makes these channels safe to repeat.
 */

/** What may stand in braces. Times are those of the request, in UTC. */
const PLACEHOLDERS = ['organizationId', 'deliveryId', 'year', 'month', 'day', 'hour', 'filename'] as const;
type Placeholder = (typeof PLACEHOLDERS)[number];

const PATH_LIMIT = 900;
/** POSIX NAME_MAX, of every common file system. */
const NAME_BYTES = 255;
/** Room for what is put around a name: a temporary one's suffix, `.gz`, the delivery's id before it. */
const NAME_RESERVE = 80;

/** A path that ends with a slash is a folder: files in it are called `<deliveryId>-<file name>`. */
export const pathTemplate = checked(problemWithPath).describe(
  `Where files go. May contain ${PLACEHOLDERS.map((name) => `{${name}}`).join(', ')}. A path that ends with a slash is a folder, in which files are called {deliveryId}-{filename}.`,
);

export function problemWithPath(path: string): string | undefined {
  if (path.length === 0 || path.length > PATH_LIMIT) return `must have 1 to ${PATH_LIMIT} characters`;
  if (/[\p{Cc}\\]/u.test(path)) return 'must not contain backslashes or control characters';
  if (path.split('/').some((segment) => segment === '..' || segment === '.'))
    return 'must not contain . or .. segments';
  const unknown = [...path.matchAll(/\{([^{}]*)\}/g)].find(([, name]) => !PLACEHOLDERS.includes(name as Placeholder));
  if (unknown) return `${unknown[0]} is unknown; there are ${PLACEHOLDERS.map((name) => `{${name}}`).join(', ')}`;
  return /[{}]/.test(path.replace(/\{[^{}]*\}/g, '')) ? 'has a brace without its other half' : undefined;
}

/** The path of one file; a leading slash stays. */
export function pathOf(path: string, filename: string, message: OutgoingMessage): string {
  const [year = '', month = '', day = ''] = message.requestedAt.slice(0, 10).split('-');
  const values: Readonly<Record<Placeholder, string>> = {
    organizationId: message.organizationId,
    deliveryId: message.deliveryId,
    year,
    month,
    day,
    hour: message.requestedAt.slice(11, 13),
    filename,
  };
  const whole = path.endsWith('/') ? `${path}{deliveryId}-{filename}` : path;
  return whole.replace(/\{(\w+)\}/g, (_, name: Placeholder) => harmlessName(values[name])).replace(/\/{2,}/g, '/');
}

/** What is the same for all files of an organization: the folders before the first other placeholder. */
export function fixedFolders(path: string, organizationId: string): string {
  const known = path.replaceAll('{organizationId}', harmlessName(organizationId));
  const before = known.split('{')[0] ?? '';
  return before.slice(0, before.lastIndexOf('/') + 1);
}

/** True when the path of a file tells which delivery it is of. */
export function isOfDelivery(path: string): boolean {
  return path.endsWith('/') || path.includes('{deliveryId}');
}

/** What paths made by the template look like for one organization; without the leading slash. */
export function pathPattern(path: string, organizationId: string): RegExp {
  const whole = path.endsWith('/') ? `${path}{deliveryId}-{filename}` : path;
  const patterns: Readonly<Record<Placeholder, string>> = {
    organizationId: literally(harmlessName(organizationId)),
    deliveryId: '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}',
    year: '\\d{4}',
    month: '\\d\\d',
    day: '\\d\\d',
    hour: '\\d\\d',
    filename: '[^/]+',
  };
  const source = whole
    .replace(/\/{2,}/g, '/')
    .replace(/^\//, '')
    .split(/(\{\w+\})/)
    .map((part) => patterns[part.slice(1, -1) as Placeholder] ?? literally(part))
    .join('');
  return new RegExp(`^${source}$`, 'u');
}

const literally = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&');

/** True when two files of one delivery would be one. */
export function isForOneFile(path: string): boolean {
  return !path.endsWith('/') && !path.includes('{filename}');
}

/** One segment of a path, whatever the text: no separators, no control characters, not `.` or `..`, not too long. */
export function harmlessName(text: string): string {
  const plain = text.replace(/[/\\\p{Cc}]/gu, '_').trim();
  const named = /^\.*$/.test(plain) ? `_${plain.length}` : plain;
  let name = named;
  while (Buffer.byteLength(name) > NAME_BYTES - NAME_RESERVE) name = shortened(name);
  return name;
}

/** One character less before the extension. */
function shortened(name: string): string {
  const dot = name.lastIndexOf('.');
  const cut = dot > 0 && name.length - dot <= 20 ? dot : name.length;
  return `${[...name.slice(0, cut)].slice(0, -1).join('')}${name.slice(cut)}`;
}
