import { createHash, sign } from 'node:crypto';
import type { LinkWish } from '../files/storage.js';
import type { ServiceAccount } from './google.js';

/**
 * A link to an object in Google Cloud Storage by the V4 signing process, with the key of a service account
 * (https://cloud.google.com/storage/docs/access-control/signing-urls-manually). The account must be allowed to read the object.
 *
 * @param bucket URL of the bucket, by the XML API: signed links are served by no other
 */
export function signedUrl(
  { clientEmail, privateKey }: ServiceAccount,
  bucket: string,
  path: string,
  { from, seconds, disposition }: LinkWish,
): string {
  const url = new URL(`${bucket}/${path.split('/').map(encoded).join('/')}`);
  const time = from.toISOString().replace(/[-:]|\.\d{3}/g, '');
  const scope = `${time.slice(0, 8)}/auto/storage/goog4_request`;
  const parameters = {
    'X-Goog-Algorithm': 'GOOG4-RSA-SHA256',
    'X-Goog-Credential': `${clientEmail}/${scope}`,
    'X-Goog-Date': time,
    'X-Goog-Expires': String(seconds),
    'X-Goog-SignedHeaders': 'host',
    'response-content-disposition': disposition,
  };
  // In the order of their code points, capitals first.
  const query = Object.entries(parameters)
    .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
    .sort()
    .join('&');
  const canonical = ['GET', url.pathname, query, `host:${url.host}`, '', 'host', 'UNSIGNED-PAYLOAD'].join('\n');
  const digest = createHash('sha256').update(canonical).digest('hex');
  const signature = sign('sha256', Buffer.from(['GOOG4-RSA-SHA256', time, scope, digest].join('\n')), privateKey);
  return `${url.origin}${url.pathname}?${query}&X-Goog-Signature=${signature.toString('hex')}`;
}

/** RFC 3986, 2.3: all but the unreserved characters. */
const encoded = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);
