import type { JsonObject } from '../domain/vocabulary.js';
import type { NewContent } from './content/contents.js';

/** Makes what it is given: a class on top of it can put private fields on any object. */
const Given = function given(object: object) {
  return object;
} as unknown as new (
  object: object,
) => object;

/**
 * What was sealed here a moment ago is read here next, by the engine, and need not be decrypted for it. It hangs on the
 * sealed data as a private field: no JSON, log or debugger output has it, and it goes when the event does.
 */
export class Remembered extends Given {
  #plain: JsonObject;
  /** What is still to be stored outside the log. */
  #contents: NewContent[] | undefined;

  private constructor(sealed: JsonObject, plain: JsonObject, contents: NewContent[] | undefined) {
    super(sealed);
    this.#plain = plain;
    this.#contents = contents;
  }

  static on(sealed: JsonObject, plain: JsonObject, contents?: NewContent[]): JsonObject {
    return new Remembered(sealed, plain, contents) as unknown as JsonObject;
  }

  /** The event stays in memory for longer than they should. */
  static takeContents(data: object): NewContent[] | undefined {
    if (!(#plain in data)) return undefined;
    const remembered = data as Remembered;
    const contents = remembered.#contents;
    remembered.#contents = undefined;
    return contents;
  }

  static of(data: object): JsonObject | undefined {
    return #plain in data ? (data as Remembered).#plain : undefined;
  }
}

/** What was sealed with new events, taken from them: it is to be stored before they are. */
export function takeContents(events: readonly { readonly data: JsonObject }[]): NewContent[] | undefined {
  let contents: NewContent[] | undefined;
  for (const { data } of events) {
    if (data.stored === undefined) continue;
    const taken = Remembered.takeContents(data);
    if (taken) contents = [...(contents ?? []), ...taken];
  }
  return contents;
}
