import type { DownloadsPort, LinkedDownload, NewDownload } from '../../src/channels/files/downloads.js';

/** As Waybill's own downloads: the same key offers the files, or the links to them, once. */
export class Offers implements DownloadsPort {
  readonly offered = new Map<string, NewDownload>();
  readonly linked = new Map<string, LinkedDownload>();
  isAway = false;

  async offer(download: NewDownload, key: string): Promise<{ id: string }> {
    if (this.isAway) throw new Error(`no room for ${JSON.stringify(download)}`);
    this.offered.set(key, download);
    return { id: key };
  }

  async offerLinked(download: LinkedDownload, key: string): Promise<{ id: string }> {
    if (this.isAway) throw new Error(`no room for ${JSON.stringify(download)}`);
    this.linked.set(key, download);
    return { id: key };
  }
}
