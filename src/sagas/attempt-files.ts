import type { FileSource, OutgoingContent } from '../channels/channel.js';
import type { StoredContent } from '../domain/delivery-events.js';
import type { Content, Failure } from '../domain/vocabulary.js';

/** @throws ContentLost, ContentUnavailable */
export type OpenFile = (stored: StoredContent, deliveryId: string) => Promise<FileSource>;

const CONTENT_LOST = 'CONTENT_LOST';
const CONTENT_UNAVAILABLE = 'CONTENT_UNAVAILABLE';

/** What another provider could not send either: the content is not at hand. */
export const OF_CONTENT: ReadonlySet<string> = new Set([CONTENT_LOST, CONTENT_UNAVAILABLE]);

export function failureOfContent(error: unknown): Failure {
  const { code, message } = error as Error & { readonly code?: string };
  return { category: 'SYSTEM', code: code === CONTENT_LOST ? code : CONTENT_UNAVAILABLE, message };
}

/**
 * The attachments of one attempt that lie outside the log. They are read while they are sent; what goes wrong there is
 * remembered, as who sends them sees no more than a stream that broke off, and may blame the other side for it.
 */
export class AttemptFiles {
  readonly #sources: ReadonlyMap<string, FileSource>;
  #trouble: unknown;

  private constructor(sources: ReadonlyMap<string, FileSource>) {
    this.#sources = sources;
  }

  /** @throws ContentLost, ContentUnavailable for what cannot be read, as far as can be told before it is */
  static async open(stored: readonly StoredContent[], deliveryId: string, open: OpenFile): Promise<AttemptFiles> {
    const sources = await Promise.all(
      stored.map(async (content) => [content.path, await open(content, deliveryId)] as const),
    );
    return new AttemptFiles(new Map(sources));
  }

  /** Why a file could not be read; undefined when all went well. */
  get trouble(): Failure | undefined {
    return this.#trouble === undefined ? undefined : failureOfContent(this.#trouble);
  }

  /** The content with its files, as adapters take it. */
  within(content: Content): OutgoingContent {
    const { attachments, ...rest } = content;
    if (!attachments) return content;
    return {
      ...rest,
      attachments: attachments.map((attachment, index) => {
        const source = this.#sources.get(`content.attachments.${index}`);
        if (!source) return attachment;
        const { base64: _, ...described } = attachment;
        return { ...described, source: { bytes: source.bytes, read: (range) => this.#watched(source.read(range)) } };
      }),
    };
  }

  async *#watched(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* chunks;
    } catch (error) {
      this.#trouble ??= error;
      throw error;
    }
  }
}
