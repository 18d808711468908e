import { z } from 'zod';
import { Adapter, type ConfigOf, type Declaration } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { type DownloadsPort, mediaType, VIEWABLE } from '../files/downloads.js';
import { DEFAULT_EXPIRY_SECONDS, expiry, linkExpiry, MAX_EXPIRY_SECONDS } from '../files/link-expiry.js';
import { fileFields, filesOf, MAX_FILE_BYTES } from '../files/placed-files.js';
import { abortReason, rejected, unanswered } from '../outcome.js';

/** Files behind a signed link that Waybill serves until it expires (docs/downloads.md). */
const DECLARATION: Declaration = {
  channel: 'DOWNLOAD',
  provider: 'download',
  configKey: 'download',
  selectedBy: 'provider',
  isDefault: true,
  idempotency: 'keyed',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested: 'Nothing is connected to.',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

const { path: _, ...ownFileFields } = fileFields;

const schema = () =>
  z.strictObject({
    provider: z
      .literal('download')
      .optional()
      .describe('Chooses links that Waybill serves; s3, azure and gcs have links of their own.')
      .meta({ default: 'download' }),
    expiresInSeconds: expiry(MAX_EXPIRY_SECONDS).describe(
      'How long the link is good after the delivery, in seconds. Then the files are removed.',
    ),
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

type DownloadConfig = ConfigOf<typeof schema>;

export class DownloadAdapter extends Adapter<DownloadConfig> {
  readonly #downloads: DownloadsPort | undefined;

  /** @param downloads missing where the adapter only describes itself */
  constructor(downloads?: DownloadsPort) {
    super(DECLARATION, schema(), linkExpiry(MAX_EXPIRY_SECONDS));
    this.#downloads = downloads;
  }

  protected async probe(): Promise<undefined> {
    return undefined;
  }

  protected async deliver(
    config: DownloadConfig,
    message: OutgoingMessage,
    { attemptKey, now, signal }: SendOptions,
  ): Promise<SendOutcome> {
    if (!this.#downloads) throw new Error('no downloads are plugged in');
    const { expiresInSeconds = DEFAULT_EXPIRY_SECONDS, password, maxUses, viewOnly = false } = config;
    if (signal.aborted) return unanswered(abortReason(signal), 'the disk', false);
    const files = await filesOf(message, { ...config, path: '{filename}' });
    if ('kind' in files) return files;
    const hidden = viewOnly && files.list.find(({ contentType }) => !VIEWABLE.has(mediaType(contentType)));
    if (hidden)
      return rejected('VALIDATION', 'NOT_VIEWABLE', 'viewOnly is for PDF, images and plain text, not for other types');
    if (signal.aborted) return unanswered(abortReason(signal), 'the disk', false);
    const { organizationId, deliveryId } = message;
    try {
      const { id } = await this.#downloads.offer(
        {
          ...{ organizationId, deliveryId, files: files.list, isViewOnly: viewOnly },
          expiresAt: new Date(now.getTime() + expiresInSeconds * 1_000).toISOString(),
          ...(password !== undefined && { password }),
          ...(maxUses !== undefined && { maxUses }),
        },
        attemptKey,
      );
      return { kind: 'accepted', delivered: true, providerMessageId: id };
    } catch {
      return files.refusal ?? rejected('TEMPORARY', 'DOWNLOADS_UNAVAILABLE', 'the files could not be stored');
    }
  }
}
