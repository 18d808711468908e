import type { StoredContent } from '../../domain/delivery-events.js';
import type { Content, JsonObject } from '../../domain/vocabulary.js';

/** A request whose sealed part has more characters than this is split … */
export const LARGE = 32 * 1024;
/** … and each of its parts that has more than this is kept outside the log. */
const LARGE_PART = 4 * 1024;

/** A part of a request that is to be kept outside the log. */
export interface LargePart {
  /** Of the field, from the event's data on; list items by index. */
  readonly path: string;
  readonly bytes: Buffer;
}

/** What is sealed of a request, as far as it can be large. */
interface Fields {
  readonly content: Content;
  readonly personalization?: JsonObject | undefined;
}

/** What the sealed fields of a request come to at least; `data` and `personalization` are not counted. */
export function lengthOf({ content: { text, html, attachments } }: Fields): number {
  let length = (text?.length ?? 0) + (html?.length ?? 0);
  if (attachments) for (const { base64 } of attachments) length += base64.length;
  return length;
}

/** The sealed fields of a request without what is large, and that. */
export function takeApart<Given extends Fields>(
  fields: Given,
): { readonly fields: Given; readonly parts: LargePart[] } {
  const parts: LargePart[] = [];
  const content: { -readonly [Key in keyof Content]: Content[Key] } = { ...fields.content };
  for (const name of ['text', 'html', 'data'] as const) {
    const json = content[name] === undefined ? '' : JSON.stringify(content[name]);
    if (json.length <= LARGE_PART) continue;
    parts.push({ path: `content.${name}`, bytes: Buffer.from(json) });
    delete content[name];
  }
  if (content.attachments)
    content.attachments = content.attachments.map((file, index) => {
      if (file.base64.length <= LARGE_PART) return file;
      parts.push({ path: `content.attachments.${index}`, bytes: Buffer.from(file.base64, 'base64') });
      return { ...file, base64: '' };
    });
  const { personalization } = fields;
  const json = personalization === undefined ? '' : JSON.stringify(personalization);
  if (json.length <= LARGE_PART) return { fields: { ...fields, content }, parts };
  parts.push({ path: 'personalization', bytes: Buffer.from(json) });
  return { fields: { ...fields, content, personalization: undefined }, parts };
}

/** The opposite, of a request's data as it was decoded. @param left what stays outside */
export function putTogether(
  data: JsonObject,
  parts: readonly LargePart[],
  left: readonly StoredContent[] = [],
): JsonObject {
  const { stored: _, ...whole } = data as unknown as Fields & { readonly stored: readonly StoredContent[] };
  const content: { -readonly [Key in keyof Content]: Content[Key] } = { ...whole.content };
  const attachments = content.attachments && [...content.attachments];
  let { personalization } = whole;
  for (const { path, bytes } of parts) {
    const [, name, index] = path.split('.');
    if (path === 'personalization') personalization = JSON.parse(bytes.toString());
    else if (name === 'text' || name === 'html' || name === 'data') content[name] = JSON.parse(bytes.toString());
    else {
      const file = attachments?.[Number(index)];
      if (name !== 'attachments' || !attachments || !file) throw new Error(`there is no ${path} to be put back`);
      attachments[Number(index)] = { ...file, base64: bytes.toString('base64') };
    }
  }
  return {
    ...whole,
    content: attachments ? { ...content, attachments } : content,
    ...(personalization && { personalization }),
    ...(left.length > 0 && { stored: left }),
  } as unknown as JsonObject;
}
