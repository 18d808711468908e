import type { Instant } from '../../domain/vocabulary.js';
import type { PlacedFile } from './placed-files.js';

/** What puts files behind a link: Waybill's own downloads, plugged in at the top of the application. */
export interface DownloadsPort {
  /**
   * Resolves when the files are on the disk and the offer is recorded. The same key offers them once.
   *
   * @throws when disk or log are out of reach
   */
  offer(download: NewDownload, key: string): Promise<{ readonly id: string }>;
  /**
   * Resolves when links of a provider of storage are recorded. The same key offers them once.
   *
   * @throws when the log is out of reach
   */
  offerLinked(download: LinkedDownload, key: string): Promise<{ readonly id: string }>;
}

export interface LinkedDownload {
  readonly organizationId: string;
  readonly deliveryId: string;
  /** Who serves the files. */
  readonly provider: string;
  readonly files: readonly {
    readonly name: string;
    readonly contentType: string;
    readonly bytes: number;
    readonly url: string;
  }[];
  readonly expiresAt: Instant;
}

export interface NewDownload {
  readonly organizationId: string;
  readonly deliveryId: string;
  readonly files: readonly PlacedFile[];
  readonly expiresAt: Instant;
  readonly password?: string;
  readonly maxUses?: number;
  readonly isViewOnly: boolean;
}

/** What browsers show without running anything of it. */
export const VIEWABLE: ReadonlySet<string> = new Set([
  'application/pdf',
  'image/png',
  'image/jpeg',
  'image/gif',
  'image/webp',
  'text/plain',
]);

export const mediaType = (contentType: string): string => (contentType.split(';')[0] ?? '').trim().toLowerCase();
