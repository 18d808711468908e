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
  readonly #plain: JsonObject;

  private constructor(sealed: JsonObject, plain: JsonObject) {
    super(sealed);
    this.#plain = plain;
  }

  static on(sealed: JsonObject, plain: JsonObject): JsonObject {
    return new Remembered(sealed, plain) as unknown as JsonObject;
  }

  static of(data: object): JsonObject | undefined {
    return #plain in data ? (data as Remembered).#plain : undefined;
  }
}

/** What was sealed outside the log is still to be stored there; it hangs on the event that names it. */
export class Unstored extends Given {
  #contents: NewContent[] | undefined;

  private constructor(sealed: JsonObject, contents: NewContent[]) {
    super(sealed);
    this.#contents = contents;
  }

  static on(sealed: JsonObject, contents: NewContent[]): JsonObject {
    return new Unstored(sealed, contents) as unknown as JsonObject;
  }

  /** Once: the event stays in memory for longer than they should. */
  static take(data: object): NewContent[] | undefined {
    if (!(#contents in data)) return undefined;
    const unstored = data as Unstored;
    const contents = unstored.#contents;
    unstored.#contents = undefined;
    return contents;
  }
}

/** What was sealed with new events, taken from them: it is to be stored before they are. */
export function takeContents(events: readonly { readonly data: JsonObject }[]): NewContent[] | undefined {
  let contents: NewContent[] | undefined;
  for (const { data } of events) {
    if (data.stored === undefined) continue;
    const taken = Unstored.take(data);
    if (taken) contents = [...(contents ?? []), ...taken];
  }
  return contents;
}
