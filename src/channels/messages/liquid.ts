import { Liquid, type Template } from 'liquidjs';
import type { OutgoingMessage } from '../channel.js';
import { type Rejected, rejected } from '../outcome.js';

/**
 * `{{variables}}` in subjects and bodies, by Liquid (https://shopify.github.io/liquid/).
 *
 * Templates are written by customers and filled with other people's data, so they see only what they are given: no
 * prototypes, no files, and bounds on time and memory. An unknown variable is an error, because a letter that says
 * "Dear ," cannot be taken back; `{{ name | default: "customer" }}` says what to do instead.
 */
export type Rendered =
  | { readonly kind: 'rendered'; readonly text: string }
  | { readonly kind: 'failed'; readonly problem: string };

/** `html` escapes the value of every `{{variable}}`; `text` inserts it as it is. */
export type TemplateTarget = 'text' | 'html';

/** Characters in one template. */
const TEMPLATE_LIMIT = 100_000;
/** Time one rendering may take; it blocks the event loop meanwhile. An ordinary one takes 0.02 ms. */
const RENDER_LIMIT_MS = 200;
/** Characters and list items one rendering may create. */
const MEMORY_LIMIT = 5_000_000;
/** Parsed templates kept, the least recently used dropped first: 500 of 2 kB take about 10 MB. */
const CACHE_SIZE = 500;

const options = {
  ownPropertyOnly: true,
  strictVariables: true,
  strictFilters: true,
  lenientIf: true,
  templates: {}, // include and render find nothing, above all no files
  timezoneOffset: 0, // dates in UTC, wherever the server stands
  parseLimit: TEMPLATE_LIMIT,
  renderLimit: RENDER_LIMIT_MS,
  memoryLimit: MEMORY_LIMIT,
};
const engines: Readonly<Record<TemplateTarget, Liquid>> = {
  text: new Liquid(options),
  html: new Liquid({ ...options, outputEscape: 'escape' }),
};
const parsed = new Map<string, Template[]>();

export function render(template: string, variables: object, target: TemplateTarget = 'text'): Rendered {
  if (!template.includes('{')) return { kind: 'rendered', text: template };
  try {
    return { kind: 'rendered', text: engines[target].renderSync(parse(template, target), variables) as string };
  } catch (error) {
    return { kind: 'failed', problem: problemOf(error) };
  }
}

/** What is wrong with a template before any variable is known, undefined when nothing is. */
export function problemWithTemplate(template: string): string | undefined {
  try {
    parse(template, 'text');
    return undefined;
  } catch (error) {
    return problemOf(error);
  }
}

/** What templates see, the first winning: the personalization, `content.data`, and `date`, `requestedAt`, `deliveryId`. */
export function variablesOf({ content, personalization, requestedAt, deliveryId }: OutgoingMessage): object {
  const data = typeof content.data === 'object' && !Array.isArray(content.data) ? content.data : undefined;
  return { date: requestedAt.slice(0, 10), requestedAt, deliveryId, ...data, ...personalization };
}

/** For an adapter whose template, in the field of that name, cannot be rendered for this message. */
export function templateError(field: string, problem: string): Rejected {
  return rejected('VALIDATION', 'TEMPLATE_ERROR', `${field}: ${problem}`);
}

function parse(template: string, target: TemplateTarget): Template[] {
  const key = `${target}:${template}`;
  const templates = parsed.get(key) ?? engines[target].parse(template);
  parsed.delete(key); // and set again: a Map keeps the order of insertion, so its first key is the least recently used
  parsed.set(key, templates);
  if (parsed.size > CACHE_SIZE) parsed.delete(parsed.keys().next().value as string);
  return templates;
}

function problemOf(error: unknown): string {
  return error instanceof Error ? error.message.slice(0, 200) : 'cannot be rendered';
}
