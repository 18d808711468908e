import { verify, X509Certificate } from 'node:crypto';
import type { JsonObject, ProviderReport } from '../../domain/vocabulary.js';
import type { Callback, CallbackRequest } from '../channel.js';
import type { Egress } from '../net/egress.js';
import { exchange } from '../net/http.js';
import { at } from '../net/json.js';
import type { Way } from '../net/ways-out.js';
import { given, objectIn, refused, textOf, timeOf, verified } from './callback.js';

/**
 * Events of Amazon SES that come through a topic of Amazon SNS
 * (https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html). The message names the certificate it
 * is signed with; only those of SNS itself are fetched, and only for topics that the configuration names.
 */
const SNS_HOST = /^sns\.[a-z]{2}(-[a-z]+)+-\d\.amazonaws\.com(\.cn)?$/;
const CERTIFICATE_PATH = /^\/SimpleNotificationService-[0-9a-zA-Z]+\.pem$/;
const FETCH_TIMEOUT_MS = 5_000;
/** Certificates kept; SNS has one for each region, and changes it every few months. */
const CERTIFICATES = 32;

/** The fields that are signed, in this order, where they are there. */
const SIGNED: Readonly<Record<string, readonly string[]>> = {
  Notification: ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type'],
  SubscriptionConfirmation: ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'],
  UnsubscribeConfirmation: ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'],
};

export interface SesCallbackConfig extends Way {
  readonly snsTopicArn?: string;
}

type Fetch = (url: URL, way: Way) => Promise<string | undefined>;

export class SnsMessages {
  readonly #certificates = new Map<string, X509Certificate>();
  readonly #fetch: Fetch;

  /** @param fetch gets the body of a URL that was found to be SNS's own */
  constructor(egress: Egress, fetch: Fetch = fetchedBy(egress)) {
    this.#fetch = fetch;
  }

  /** @param config of SES; what is fetched is fetched by its way out */
  async parse(request: CallbackRequest, config: SesCallbackConfig): Promise<Callback> {
    const { snsTopicArn } = config;
    if (snsTopicArn === undefined) return refused('snsTopicArn is not configured');
    const message = objectIn(request.body);
    const fields = SIGNED[String(message?.Type)];
    if (!message || !fields) return refused('body');
    if (message.TopicArn !== snsTopicArn) return refused('topic');
    const certificate = await this.#certificateFor(message.SigningCertURL, config, request.now);
    if (!certificate) return refused('certificate');
    const text = fields
      .filter((field) => typeof message[field] === 'string')
      .map((field) => `${field}\n${message[field]}\n`)
      .join('');
    const algorithm = message.SignatureVersion === '2' ? 'sha256' : message.SignatureVersion === '1' ? 'sha1' : '';
    const signature = Buffer.from(String(message.Signature), 'base64');
    if (algorithm === '' || !verify(algorithm, Buffer.from(text), certificate.publicKey, signature))
      return refused('signature');
    if (message.Type === 'SubscriptionConfirmation') return await this.#confirm(message.SubscribeURL, config);
    return verified(message.Type === 'Notification' ? sesReports(String(message.Message), request.now) : []);
  }

  async #certificateFor(text: unknown, way: Way, now: Date): Promise<X509Certificate | undefined> {
    const url = snsUrl(text);
    if (!url || !CERTIFICATE_PATH.test(url.pathname)) return undefined;
    let certificate = this.#certificates.get(url.href);
    if (!certificate) {
      const pem = await this.#fetch(url, way);
      if (pem === undefined) return undefined;
      try {
        certificate = new X509Certificate(pem);
      } catch {
        return undefined;
      }
      if (this.#certificates.size >= CERTIFICATES) this.#certificates.clear();
      this.#certificates.set(url.href, certificate);
    }
    return new Date(certificate.validFrom) <= now && now <= new Date(certificate.validTo) ? certificate : undefined;
  }

  /** The subscription is ours if the topic is: SNS sends events once its URL has been called. */
  async #confirm(text: unknown, way: Way): Promise<Callback> {
    const url = snsUrl(text);
    if (!url) return refused('subscription URL');
    return (await this.#fetch(url, way)) === undefined ? refused('subscription not confirmed') : verified([]);
  }
}

/** A URL of SNS itself: its signature is not checked yet, so nothing else may be called (server-side request forgery). */
function snsUrl(text: unknown): URL | undefined {
  if (typeof text !== 'string' || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  const isPlain = url.protocol === 'https:' && url.port === '' && url.username === '' && url.password === '';
  return isPlain && SNS_HOST.test(url.hostname) ? url : undefined;
}

const fetchedBy =
  (egress: Egress): Fetch =>
  async ({ origin, pathname, search }, way) => {
    const answer = await exchange(egress.dispatcher(way), {
      origin,
      path: pathname + search,
      method: 'GET',
      headers: [],
      timeoutMs: FETCH_TIMEOUT_MS,
      signal: new AbortController().signal,
      keepBytes: 16_384,
    });
    return answer.kind === 'answer' && answer.status === 200 ? answer.body : undefined;
  };

/** https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html */
const KINDS: Readonly<Record<string, ProviderReport['kind']>> = {
  Delivery: 'Delivered',
  Bounce: 'Bounced',
  Reject: 'Bounced',
  Complaint: 'Complained',
  Open: 'Opened',
  Click: 'Clicked',
};

function sesReports(text: string, now: Date): ProviderReport[] {
  const event = objectIn(Buffer.from(text));
  const type = String(event?.eventType ?? event?.notificationType);
  const kind = KINDS[type];
  const messageId = textOf(at(event, 'mail.messageId'));
  if (!event || !kind || messageId === undefined) return [];
  const part = event[type.toLowerCase()];
  // A transient bounce may be the end of a mailbox that was full for days: the message is lost, the address is not.
  const isHard = at(part, 'bounceType') === 'Permanent';
  const happenedAt = textOf(at(part, 'timestamp')) ?? textOf(at(event, 'mail.timestamp'));
  const shared = {
    kind,
    at: timeOf(happenedAt, now),
    providerMessageId: messageId,
    ...given({
      deliveryId: textOf(at(event, 'mail.tags.deliveryId.0')),
      attemptKey: textOf(at(event, 'mail.tags.attemptKey.0')),
      code: kind === 'Bounced' ? `SES_${String(at(part, 'bounceSubType') ?? type).toUpperCase()}` : undefined,
      suppress: isHard || kind === 'Complained' ? true : undefined,
    }),
  };
  return recipientsOf(event, part).map(({ address, detail }) => ({
    id: `${messageId}/${type}/${textOf(at(part, 'feedbackId')) ?? happenedAt}/${address}`,
    address,
    ...shared,
    ...given({ detail }),
  }));
}

function recipientsOf(event: JsonObject, part: unknown): { address: string; detail: string | undefined }[] {
  const listed = at(part, 'bouncedRecipients') ?? at(part, 'complainedRecipients') ?? at(part, 'recipients');
  const list = Array.isArray(listed) ? listed : at(event, 'mail.destination');
  return (Array.isArray(list) ? list : []).flatMap((entry: unknown) => {
    const address = textOf(entry) ?? textOf(at(entry, 'emailAddress'));
    return address === undefined ? [] : [{ address, detail: textOf(at(entry, 'diagnosticCode')) }];
  });
}
