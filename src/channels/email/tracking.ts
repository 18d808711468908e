import { z } from 'zod';

/**
 * Links in mail that come back to Waybill: a picture that tells of an opening, links that go by Waybill first, and the
 * way out (RFC 8058). Each is signed, so nobody can make one: not for another message, and not to another page.
 */

export type LinkKind = 'open' | 'click' | 'unsubscribe';

export interface TrackingWishes {
  readonly opens?: boolean;
  readonly clicks?: boolean;
  readonly unsubscribe?: boolean;
}

export interface TrackingLinksOptions {
  /** Where the world reaches this installation, without a slash at the end; links cannot be made without it. */
  readonly publicUrl: string | undefined;
  /** A keyed digest, base64url, that without the installation's secret nobody can make. */
  readonly sign: (text: string) => string;
}

const DIGEST = /^[\w-]{20,60}$/;

export class TrackingLinks {
  readonly publicUrl: string | undefined;
  readonly #sign: (text: string) => string;

  constructor({ publicUrl, sign }: TrackingLinksOptions) {
    this.publicUrl = publicUrl;
    this.#sign = sign;
  }

  open(attemptKey: string): string {
    return `${this.publicUrl}/t/open/${attemptKey}/${this.#signature('open', attemptKey, '')}`;
  }

  click(attemptKey: string, url: string): string {
    const signature = this.#signature('click', attemptKey, url);
    return `${this.publicUrl}/t/click/${attemptKey}/${signature}?to=${encodeURIComponent(url)}`;
  }

  /** The address itself is not in the link: mail is forwarded, and links are in the logs of proxies. */
  unsubscribe(attemptKey: string, address: string): string {
    const signature = this.#signature('unsubscribe', attemptKey, address.toLowerCase());
    return `${this.publicUrl}/t/unsubscribe/${attemptKey}/${signature}`;
  }

  /** @param about of a click the page it leads to, of the way out the address */
  isGenuine(kind: LinkKind, attemptKey: string, about: string, signature: string): boolean {
    // Compared as digests of their own: how long that takes tells nothing of the text.
    return DIGEST.test(signature) && this.#sign(signature) === this.#sign(this.#signature(kind, attemptKey, about));
  }

  #signature(kind: LinkKind, attemptKey: string, about: string): string {
    return this.#sign(`link\n${kind}\n${attemptKey}\n${about}`);
  }
}

export const trackingWishes = (links: TrackingLinks | undefined) =>
  z
    .strictObject({
      opens: z.boolean().optional().describe('A picture in the HTML tells of openings. Default: false.'),
      clicks: z.boolean().optional().describe('Links in the HTML go by Waybill first. Default: false.'),
      unsubscribe: z
        .boolean()
        .optional()
        .describe(
          'A way out for messages to a single recipient: one click in the mail program (RFC 8058), or a page. Default: false.',
        ),
    })
    .refine(() => links?.publicUrl !== undefined, 'needs the setting publicUrl (WAYBILL_PUBLIC_URL)');

const ANCHOR = /(<a\s(?:[^<>"']|"[^"]*"|'[^']*')*?\bhref\s*=\s*)(?:"([^"]*)"|'([^']*)')/gi;
const ENTITIES: Readonly<Record<string, string>> = {
  amp: '&',
  '#38': '&',
  '#x26': '&',
  quot: '"',
  '#39': "'",
  apos: "'",
};

/** Links to pages lead by Waybill; those to mailboxes, places in the mail and the like stay as they are. */
export function withTrackedLinks(html: string, links: TrackingLinks, attemptKey: string): string {
  return html.replace(ANCHOR, (whole, before: string, double?: string, single?: string) => {
    const url = (double ?? single ?? '').replace(
      /&(#?\w+);/g,
      (entity, name: string) => ENTITIES[name.toLowerCase()] ?? entity,
    );
    const isPage = /^https?:\/\//i.test(url) && URL.canParse(url) && url.length <= 2_000;
    return isPage ? `${before}"${links.click(attemptKey, url).replaceAll('&', '&amp;')}"` : whole;
  });
}

/** The picture stands at the end, so that it is the last thing that is loaded. */
export function withOpenPicture(html: string, links: TrackingLinks, attemptKey: string): string {
  const picture = `<img src="${links.open(attemptKey)}" width="1" height="1" alt="">`;
  const end = html.toLowerCase().lastIndexOf('</body>');
  return end === -1 ? html + picture : html.slice(0, end) + picture + html.slice(end);
}
