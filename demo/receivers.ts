import { Webhook } from 'standardwebhooks';
import { unusedPort } from '../test/support/peers/http-peer.js';
import { type SftpServerPeer, startSftpServer } from '../test/support/peers/sftp-server.js';
import { type ReceivedMail, startSmtpPeer } from '../test/support/peers/smtp.js';
import { type ReceivedWebhook, startWebhookReceiver } from '../test/support/peers/webhook-receiver.js';

/**
 * The other side: a real mail server, HTTP server and SFTP server on this machine. They keep what they get, so that the demo
 * can say what really arrived and not what was meant to.
 */

export const MAIL_LOGIN = { user: 'audit@hospital.com', pass: 'a-password-of-the-mail-server' };
export const SIEM_TOKEN = 'a-token-of-the-siem';
export const REGISTRY_LOGIN = { username: 'hospital-001', password: 'a-password-of-the-registry' };

export const PATHS = {
  siem: '/api/audit-events',
  /** Answers 503 to the first two attempts of each delivery. */
  pharmacy: '/api/pharmacy',
  /** Answers 503 until somebody repairs it. */
  archive: '/api/archive',
} as const;

export interface Receivers {
  readonly mailPort: number;
  readonly webOrigin: string;
  /** The SFTP server of the health registry. */
  readonly registry: SftpServerPeer;
  /** Nobody listens there. */
  readonly deadOrigin: string;
  readonly mails: readonly ReceivedMail[];
  readonly webhooks: readonly ReceivedWebhook[];
  mailsOf(deliveryId: string): readonly ReceivedMail[];
  webhooksOf(deliveryId: string): readonly ReceivedWebhook[];
  repairArchive(): void;
  close(): Promise<void>;
}

export async function startReceivers(): Promise<Receivers> {
  const attempts = new Map<string, number>();
  let isArchiveRepaired = false;

  const mail = await startSmtpPeer({ auth: MAIL_LOGIN });
  const registry = await startSftpServer(REGISTRY_LOGIN);
  const web = await startWebhookReceiver({
    respond({ path, headers }) {
      if (headers.authorization !== `Bearer ${SIEM_TOKEN}`) return { status: 401 };
      if (path === PATHS.archive) return { status: isArchiveRepaired ? 204 : 503 };
      if (path !== PATHS.pharmacy) return { status: path === PATHS.siem ? 204 : 404 };
      const id = String(headers['webhook-id']);
      attempts.set(id, (attempts.get(id) ?? 0) + 1);
      return { status: (attempts.get(id) ?? 0) <= 2 ? 503 : 204 };
    },
  });
  return {
    mailPort: mail.port,
    registry,
    webOrigin: new URL(web.url).origin,
    deadOrigin: `http://127.0.0.1:${await unusedPort()}`,
    mails: mail.received,
    webhooks: web.received,
    // The Message-ID is made of the delivery's id, as the webhook's id is.
    mailsOf: (id) => mail.received.filter((received) => received.mail.messageId?.includes(id)),
    webhooksOf: (id) => web.received.filter((received) => webhookId(received).startsWith(id)),
    repairArchive() {
      isArchiveRepaired = true;
    },
    async close() {
      await Promise.all([mail.close(), web.close(), registry.close()]);
    },
  };
}

export const webhookId = ({ headers }: ReceivedWebhook): string => String(headers['webhook-id']);

/** What kind of thing it was: the `type` that Standard Webhooks puts at the top of the body. */
export const kindOf = ({ body }: ReceivedWebhook): string => String((body as { type?: unknown } | undefined)?.type);

/** How many carry a signature that the public `standardwebhooks` package accepts with their path's secret. */
export function countVerified(webhooks: readonly ReceivedWebhook[], secrets: ReadonlyMap<string, string>): number {
  return webhooks.filter(({ path, raw, headers }) => {
    try {
      new Webhook(secrets.get(path) ?? '').verify(raw, headers as Record<string, string>);
      return true;
    } catch {
      return false;
    }
  }).length;
}
