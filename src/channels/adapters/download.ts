import { z } from 'zod';
import type { FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import type {
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { problemsOf } from '../config.js';
import { type DownloadsPort, mediaType, VIEWABLE } from '../downloads.js';
import { type FileConfig, fileFields, filesOf, MAX_FILE_BYTES } from '../files.js';
import { abortReason, rejected, unanswered } from '../outcome.js';

/** Files behind a signed link that Waybill serves until it expires (docs/downloads.md). */
const DESCRIPTION: ChannelDescription = {
  channel: 'DOWNLOAD',
  provider: 'download',
  configKey: 'download',
  secretFields: ['password', 'encryption.password'],
  idempotency: 'keyed',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

const DAY_SECONDS = 86_400;
const DEFAULT_EXPIRY_SECONDS = 7 * DAY_SECONDS;
const MAX_EXPIRY_SECONDS = 366 * DAY_SECONDS;

interface DownloadConfig extends Omit<FileConfig, 'path'> {
  readonly expiresInSeconds?: number;
  readonly password?: string;
  readonly maxUses?: number;
  readonly viewOnly?: boolean;
}

const { path: _, ...ownFileFields } = fileFields;

export class DownloadAdapter implements ChannelAdapter {
  readonly #downloads: DownloadsPort | undefined;
  readonly schema: z.ZodType = z.strictObject({
    expiresInSeconds: z
      .int()
      .min(60)
      .max(MAX_EXPIRY_SECONDS)
      .optional()
      .describe('How long the link is good after the delivery, in seconds. Then the files are removed.')
      .meta({ default: DEFAULT_EXPIRY_SECONDS }),
    password: z
      .string()
      .min(8)
      .max(128)
      .optional()
      .describe('Is asked for by HTTP Basic authentication, with any user name; ten wrong ones lock the link.')
      .meta({ secret: true }),
    maxUses: z
      .int()
      .min(1)
      .max(1_000)
      .optional()
      .describe(
        'How often the files may be fetched; going on after an interruption is no new use. Default: any number.',
      ),
    viewOnly: z
      .boolean()
      .optional()
      .describe('Files are shown and not offered for saving; only PDF, images and plain text can be.')
      .meta({ default: false }),
    ...ownFileFields,
  });

  /** @param downloads missing where the adapter only describes itself */
  constructor(downloads?: DownloadsPort) {
    this.#downloads = downloads;
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  /** A bare address is how long the link is good, in seconds: a link is nobody's. */
  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, expiresInSeconds: Number(address) };
  }

  validateAddress(address: string): string | undefined {
    const seconds = /^\d{2,8}$/.test(address) ? Number(address) : 0;
    return seconds >= 60 && seconds <= MAX_EXPIRY_SECONDS
      ? undefined
      : `must be how long the link is good, from 60 to ${MAX_EXPIRY_SECONDS} seconds`;
  }

  /** There is nothing to connect to. */
  async test(): Promise<ConnectionTest> {
    return { ok: true, latencyMs: 0, problems: [] };
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    if (!this.#downloads) throw new Error('no downloads are plugged in');
    const config = message.config as unknown as DownloadConfig;
    const { expiresInSeconds = DEFAULT_EXPIRY_SECONDS, password, maxUses, viewOnly = false } = config;
    if (signal.aborted) return unanswered(abortReason(signal), 'the disk', false);
    const files = await filesOf(message, { ...config, path: '{filename}' });
    if ('kind' in files) return files;
    const hidden = viewOnly && files.find(({ contentType }) => !VIEWABLE.has(mediaType(contentType)));
    if (hidden)
      return rejected('VALIDATION', 'NOT_VIEWABLE', 'viewOnly is for PDF, images and plain text, not for other types');
    if (signal.aborted) return unanswered(abortReason(signal), 'the disk', false);
    const { organizationId, deliveryId } = message;
    try {
      const { id } = await this.#downloads.offer(
        {
          ...{ organizationId, deliveryId, files, isViewOnly: viewOnly },
          expiresAt: new Date(now.getTime() + expiresInSeconds * 1_000).toISOString(),
          ...(password !== undefined && { password }),
          ...(maxUses !== undefined && { maxUses }),
        },
        attemptKey,
      );
      return { kind: 'accepted', delivered: true, providerMessageId: id };
    } catch {
      return rejected('TEMPORARY', 'DOWNLOADS_UNAVAILABLE', 'the files could not be stored');
    }
  }
}
