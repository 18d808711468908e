import { createHash, createHmac } from 'node:crypto';

/**
 * The signature that a pre-signed URL of S3 must have, worked out from the URL alone by the published steps
 * (https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html): s3rver takes any.
 */
export function expectedSignature(link: string, secretAccessKey: string): string {
  const url = new URL(link);
  const [, date = '', region = '', service = ''] = (url.searchParams.get('X-Amz-Credential') ?? '').split('/');
  const query = url.search
    .slice(1)
    .split('&')
    .filter((pair) => !pair.startsWith('X-Amz-Signature='))
    .sort()
    .join('&');
  const canonical = ['GET', url.pathname, query, `host:${url.host}`, '', 'host', 'UNSIGNED-PAYLOAD'].join('\n');
  const scope = `${date}/${region}/${service}/aws4_request`;
  const digest = createHash('sha256').update(canonical).digest('hex');
  const text = ['AWS4-HMAC-SHA256', url.searchParams.get('X-Amz-Date'), scope, digest].join('\n');
  const mac = (key: Buffer | string, words: string) => createHmac('sha256', key).update(words).digest();
  const key = [date, region, service, 'aws4_request'].reduce<Buffer | string>(mac, `AWS4${secretAccessKey}`);
  return mac(key, text).toString('hex');
}
