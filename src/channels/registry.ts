import type { Channel, FieldProblem, Json, JsonObject } from '../domain/vocabulary.js';
import { ApiAdapter } from './adapters/api.js';
import { ApnsAdapter } from './adapters/apns.js';
import { AzureAdapter } from './adapters/azure.js';
import { BirdAdapter } from './adapters/bird.js';
import { ConnectAdapter } from './adapters/connect.js';
import { DownloadAdapter } from './adapters/download.js';
import { FcmAdapter } from './adapters/fcm.js';
import { GcsAdapter } from './adapters/gcs.js';
import { InAppAdapter } from './adapters/inapp.js';
import { LinkedDownloadAdapter } from './adapters/linked-download.js';
import { LocalAdapter } from './adapters/local.js';
import { MailgunAdapter } from './adapters/mailgun.js';
import { MailpaceAdapter } from './adapters/mailpace.js';
import { ResendAdapter } from './adapters/resend.js';
import { S3Adapter } from './adapters/s3.js';
import { SendGridAdapter } from './adapters/sendgrid.js';
import { SesAdapter } from './adapters/ses.js';
import { SftpAdapter } from './adapters/sftp.js';
import { SlackAdapter } from './adapters/slack.js';
import { SmtpAdapter } from './adapters/smtp.js';
import { SnsAdapter } from './adapters/sns.js';
import { TeamsAdapter } from './adapters/teams.js';
import { TwilioAdapter } from './adapters/twilio.js';
import { TwilioVoiceAdapter } from './adapters/twilio-voice.js';
import { WebhookAdapter } from './adapters/webhook.js';
import { WebPushAdapter } from './adapters/webpush.js';
import { WnsAdapter } from './adapters/wns.js';
import type { ChannelAdapter } from './channel.js';
import type { TrackingLinks } from './email/tracking.js';
import type { DownloadsPort } from './files/downloads.js';
import type { InboxPort } from './messages/inbox.js';
import { Egress, type EgressOptions } from './net/egress.js';

/** Finds the adapter for a destination, and knows which parts of its configuration nobody may read again. */

/** Headers of webhooks whose value lets somebody in. */
const SECRET_HEADER = /auth|token|key|secret|cookie|password|credential/i;

export interface Selection {
  readonly adapter: ChannelAdapter;
  /** The channel's own object inside the destination's configuration: what the adapter calls its config. */
  readonly config: JsonObject;
}

export class ChannelRegistry {
  constructor(readonly adapters: readonly ChannelAdapter[]) {}

  /** What is wrong with a bare address, undefined when at least one provider of the channel takes it. */
  addressProblem(channel: Channel, address: string): string | undefined {
    const problems = this.#of(channel).map((adapter) => adapter.validateAddress(address));
    if (problems.length === 0) return `channel ${channel} is not available yet`;
    return problems.includes(undefined) ? undefined : [...new Set(problems)].join(', or ');
  }

  /** The adapter for a destination's whole configuration (`{email: {service: 'smtp', …}}`), or why there is none. */
  adapterFor(channel: Channel, config: JsonObject): Selection | FieldProblem[] {
    const adapters = this.#of(channel);
    const [first] = adapters;
    if (!first) return [{ path: 'type', problem: `channel ${channel} is not available yet` }];
    const key = first.describe().configKey;
    const unknown = Object.keys(config).filter((name) => name !== key);
    if (unknown.length > 0) return unknown.map((name) => ({ path: `config.${name}`, problem: 'is not a known field' }));
    const own = config[key];
    if (!isObject(own)) {
      return [{ path: `config.${key}`, problem: own === undefined ? 'is required' : 'must be an object' }];
    }
    if (adapters.length === 1) return { adapter: first, config: own };
    const { selectedBy = 'service' } = first.describe();
    const chosen = own[selectedBy];
    const adapter = adapters.find((candidate) => {
      const { provider, isDefault = false } = candidate.describe();
      return chosen === undefined ? isDefault : provider === chosen;
    });
    if (adapter) return { adapter, config: own };
    const names = adapters.map((candidate) => candidate.describe().provider).join(', ');
    return [{ path: `config.${key}.${selectedBy}`, problem: `must be one of ${names}` }];
  }

  /** Everything that is wrong with a destination's configuration, with paths from the destination on. */
  validate(channel: Channel, config: JsonObject): FieldProblem[] {
    const selection = this.adapterFor(channel, config);
    if (!('adapter' in selection)) return selection;
    const { configKey } = selection.adapter.describe();
    return selection.adapter
      .validate(selection.config)
      .map(({ path, problem }) => ({ path: join('config', configKey, path), problem }));
  }

  /** Dotted paths of the secrets that a configuration has: `webhook.secret`, `webhook.headers.Authorization`. */
  secretPaths(channel: Channel, config: JsonObject): string[] {
    return this.#secrets(channel, config).map((path) => join(...path));
  }

  #of(channel: Channel): ChannelAdapter[] {
    return this.adapters.filter((adapter) => adapter.describe().channel === channel);
  }

  /** The secrets of all providers of the channel, so that none shows where `service` is wrong or was changed. */
  #secrets(channel: Channel, config: JsonObject): string[][] {
    const declared = this.#of(channel).flatMap((adapter) => {
      const { configKey, secretFields } = adapter.describe();
      const headers = at(config, [configKey, 'headers']);
      const secretHeaders = isObject(headers) ? Object.keys(headers).filter((name) => SECRET_HEADER.test(name)) : [];
      return [
        ...secretFields.map((field) => [configKey, ...field.split('.')]),
        ...secretHeaders.map((name) => [configKey, 'headers', name]),
      ];
    });
    return declared.filter((path) => typeof at(config, path) === 'string');
  }
}

export interface Channels {
  readonly registry: ChannelRegistry;
  readonly egress: Egress;
  /** Resolves when every connection is closed. Calls under way are finished first. */
  close(): Promise<void>;
}

/** What channels need of the house; without it they can only describe themselves. */
export interface ChannelParts {
  readonly version?: string;
  readonly localRoot?: string;
  readonly inboxes?: InboxPort;
  readonly downloads?: DownloadsPort;
  /** For links in e-mail that tell of openings and clicks. */
  readonly links?: TrackingLinks;
}

/** All channels there are. `version` goes into User-Agent, `localRoot` is the folder of local storage, `inboxes` are ours. */
export function createChannels({
  version = 'dev',
  localRoot = 'files',
  links,
  inboxes,
  downloads,
  ...options
}: EgressOptions & ChannelParts): Channels {
  const egress = new Egress(options);
  const userAgent = `Waybill/${version}`;
  const s3 = new S3Adapter(egress);
  const azure = new AzureAdapter(egress);
  const gcs = new GcsAdapter(egress);
  const registry = new ChannelRegistry([
    new WebhookAdapter(egress, userAgent),
    new SmtpAdapter(egress, links),
    new SendGridAdapter(egress, userAgent),
    new SesAdapter(egress),
    new MailgunAdapter(egress, userAgent),
    new ResendAdapter(egress, userAgent),
    new MailpaceAdapter(egress, userAgent),
    new TwilioAdapter(egress),
    new SftpAdapter(egress),
    new SnsAdapter(egress),
    new BirdAdapter(egress, userAgent),
    s3,
    azure,
    gcs,
    new LocalAdapter(localRoot),
    new SlackAdapter(egress),
    new TeamsAdapter(egress, userAgent),
    new ApiAdapter(egress, userAgent),
    new TwilioVoiceAdapter(egress),
    new ConnectAdapter(egress),
    new FcmAdapter(egress),
    new ApnsAdapter(egress),
    new WnsAdapter(egress),
    new InAppAdapter(inboxes),
    new WebPushAdapter(egress),
    new DownloadAdapter(downloads),
    new LinkedDownloadAdapter(s3, downloads),
    new LinkedDownloadAdapter(azure, downloads),
    new LinkedDownloadAdapter(gcs, downloads),
  ]);
  const close = async () => {
    await Promise.all([...registry.adapters.map((adapter) => adapter.close?.()), egress.close()]);
  };
  return { registry, egress, close };
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function at(config: JsonObject, path: readonly string[]): Json | undefined {
  return path.reduce<Json | undefined>((value, key) => (isObject(value) ? value[key] : undefined), config);
}

function join(...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join('.');
}
