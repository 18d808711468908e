import { createHash } from 'node:crypto';
import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import { given, header, isSame, refused, timeOf, verified } from './callback.js';

/**
 * Bird's status reports, a GET with the report in the query
 * (https://developers.messagebird.com/api/sms-messaging/#handle-a-status-report). The header holds a JWT, HS256 under the
 * signing key, with the digests of URL and body (https://developers.messagebird.com/api/#verifying-http-requests).
 */
export async function parseBirdCallback(request: CallbackRequest, { signingKey }: JsonObject): Promise<Callback> {
  if (typeof signingKey !== 'string') return refused('signingKey is not configured');
  const { jwtVerify } = await import('jose');
  const token = header(request, 'messagebird-signature-jwt');
  const options = { algorithms: ['HS256'], issuer: 'MessageBird', currentDate: request.now, clockTolerance: 60 };
  const claims = await jwtVerify(token, Buffer.from(signingKey), options).then(
    ({ payload }) => payload,
    () => undefined,
  );
  if (!claims) return refused('signature');
  if (!isSame(String(claims.url_hash), sha256(request.url))) return refused('url');
  if (request.body.length > 0 && !isSame(String(claims.payload_hash), sha256(request.body))) return refused('body');
  const query = new URL(request.url).searchParams;
  const kind = KINDS[query.get('status') ?? ''];
  const id = query.get('id');
  const number = query.get('recipient');
  if (!kind || !id) return verified([]);
  const code = query.get('statusErrorCode');
  return verified([
    {
      id: `${id}/${number}/${query.get('status')}`,
      kind,
      at: timeOf(query.get('statusDatetime'), request.now),
      providerMessageId: id,
      ...given({
        attemptKey: query.get('reference') ?? undefined,
        deliveryId: /^[0-9a-f-]{36}(?=_)/.exec(query.get('reference') ?? '')?.[0],
        address: number ? `+${number.replace(/^\+/, '')}` : undefined,
        code: kind === 'Bounced' ? `BIRD_${code || 'FAILED'}` : undefined,
        detail: kind === 'Bounced' ? (query.get('statusReason') ?? undefined) : undefined,
        suppress: UNREACHABLE.has(code ?? '') ? true : undefined,
      }),
    },
  ]);
}

/** Same page, "status"; scheduled, sent and buffered change nothing. */
const KINDS: Readonly<Record<string, ProviderReport['kind']>> = {
  delivered: 'Delivered',
  delivery_failed: 'Bounced',
  expired: 'Bounced',
};

/** https://developers.messagebird.com/api/sms-messaging/#sms-errors: unknown subscriber, opted out. */
const UNREACHABLE = new Set(['1', '103']);

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
