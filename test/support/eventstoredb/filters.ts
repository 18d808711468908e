import type { RecordedEvent } from '../../../src/event-store/event-store.js';
import { invalidArgument } from './errors.js';
import type { FilterOptions } from './requests.js';

export type Filter = (event: Pick<RecordedEvent, 'streamId' | 'type'>) => boolean;

/** @throws RpcError INVALID_ARGUMENT when the regular expression is none, or it is not said what to look at */
export function filterOf({ on, regex, prefixes }: FilterOptions): Filter {
  if (on === undefined) throw invalidArgument('a filter needs to say what it looks at');
  const matches = textFilter(regex, prefixes);
  return on === 'stream-name' ? ({ streamId }) => matches(streamId) : ({ type }) => matches(type);
}

function textFilter(regex: string, prefixes: readonly string[]): (text: string) => boolean {
  if (regex === '') return (text) => prefixes.some((prefix) => text.startsWith(prefix));
  const expression = regularExpression(regex);
  return (text) => expression.test(text);
}

function regularExpression(source: string): RegExp {
  try {
    return new RegExp(source);
  } catch (error) {
    throw invalidArgument((error as Error).message);
  }
}
