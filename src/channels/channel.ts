import type { z } from 'zod';
import type {
  Attachment,
  Channel,
  Content,
  ErrorCategory,
  FieldProblem,
  Instant,
  JsonObject,
  Priority,
  ProviderReport,
} from '../domain/vocabulary.js';

/**
 * The channel port. An adapter turns one message into one call to one provider and says what came of it.
 *
 * It knows nothing of retries, databases, events or Nest: those decide *whether* and *when*, the adapter only *how*.
 * `send` never throws for anything a provider, a network or a configuration can do; a throw is a programmer's error, or
 * what the reading of an attachment threw.
 */
export interface ChannelAdapter {
  describe(): ChannelDescription;
  /**
   * The form of the channel's configuration. Every field says what it is (`.describe`), what its absence means
   * (`.meta({ default })`), and whether it is a secret (`.meta({ secret: true })`): the documentation is made of it.
   */
  readonly schema: z.ZodType;
  /** The provider's own codes that say more than what they come with. For the documentation. */
  readonly errors?: ErrorTable;
  /** Checks the channel's own configuration object (the value under `config.webhook`, `config.email`, …). */
  validate(config: JsonObject): FieldProblem[];
  /** Reaches the provider without delivering anything to a recipient. */
  test(config: JsonObject, options: { readonly signal: AbortSignal }): Promise<ConnectionTest>;
  send(message: OutgoingMessage, options: SendOptions): Promise<SendOutcome>;
  /**
   * Looks for a message in the provider's own records: whether a call that nobody knows the end of has taken effect.
   * Where there are no records that can be relied upon, it is missing. Never throws for what a provider can do.
   */
  lookup?(message: OutgoingMessage, options: LookupOptions): Promise<LookupResult>;
  /**
   * Removes what the configuration says has been kept for long enough. Missing where nothing is kept. Rejects when it
   * could not be finished; what remains is found again the next time.
   */
  cleanUp?(config: JsonObject, options: CleanUpOptions): Promise<CleanUp>;
  /**
   * Reads what the provider posts to us about messages it has accepted, after having made sure that it is from there.
   * Missing where the provider posts nothing. Never throws for what a stranger can send.
   */
  parseCallback?(request: CallbackRequest, config: JsonObject): Promise<Callback> | Callback;
  /** Ends its connections. Calls under way are finished first. */
  close?(): void | Promise<void>;
  /** The configuration with its recipient replaced: how a bare address uses a configured provider. */
  withAddress(config: JsonObject, address: string): JsonObject;
  /** Problems of a bare address (e-mail address, E.164 number, URL), empty when it is good. */
  validateAddress(address: string): string | undefined;
}

/**
 * What protects the receiver when a crash leaves it unknown whether a call happened:
 * `keyed`: the provider or receiver recognises `attemptKey`; `natural`: the same call overwrites itself (same file name);
 * `none`: nothing does, so an attempt is recorded before it is made.
 */
export type Idempotency = 'keyed' | 'natural' | 'none';

export interface ErrorTable {
  /** Where the provider documents the codes. */
  readonly source: string;
  readonly categories: Readonly<Record<string, ErrorCategory>>;
}

export interface ChannelDescription {
  readonly channel: Channel;
  /** The provider's name as recorded with each attempt: `webhook`, `smtp`, `sendgrid`, `twilio`. */
  readonly provider: string;
  /** The key of the channel's object inside a destination's `config`: `webhook`, `email`, `sms`. */
  readonly configKey: string;
  /** The field of that object that chooses among the providers of the channel. Default `service`. */
  readonly selectedBy?: 'service' | 'provider';
  /** Chosen where that field is missing. Default false. */
  readonly isDefault?: boolean;
  /** Dotted paths inside that object whose values are never shown again once stored. */
  readonly secretFields: readonly string[];
  readonly idempotency: Idempotency;
  /** True when the provider's acceptance is the confirmation of delivery. */
  readonly acceptanceIsDelivery: boolean;
  /** What to do with an attempt that is in doubt after a crash, unless policy says otherwise. */
  readonly inDoubt: 'resend' | 'hold';
  /** What a test of the connection does, in a sentence. For the documentation. */
  readonly tested?: string;
  readonly limits: {
    /** Whole message with attachments, in bytes as sent. */
    readonly maxBytes: number;
    /** Bound on one attempt, unless the configuration has its own `timeout`. */
    readonly timeoutMs: number;
  };
}

export interface OutgoingMessage {
  readonly deliveryId: string;
  readonly organizationId: string;
  /** Configuration of the channel's own object, already valid. */
  readonly config: JsonObject;
  /** Large attachments are sources, to be read while they are sent. */
  readonly content: OutgoingContent;
  /** Values for `{{variables}}`; wins over `content.data` where both name one. */
  readonly personalization?: JsonObject;
  /** When the delivery was requested. */
  readonly requestedAt: Instant;
  /** When it is of no use any more, for providers that keep messages for devices that are off. */
  readonly expiresAt?: Instant;
  /** Of the request. What providers that know labels group their statistics by. */
  readonly tags?: readonly string[];
  readonly priority?: Priority;
  /** Where the provider is to report to, for providers that take it with each message; missing when we have no public URL. */
  readonly callbackUrl?: string;
}

export interface OutgoingContent extends Omit<Content, 'attachments'> {
  readonly attachments?: readonly OutgoingAttachment[];
}

/** Small files as they are, large ones as sources. */
export type OutgoingAttachment = Attachment | LargeAttachment;

/** An attachment that is not in memory. */
export interface LargeAttachment extends Omit<Attachment, 'base64'> {
  readonly source: FileSource;
}

/** Bytes that are read when they are sent, as often as that takes, and never all of them at once. */
export interface FileSource {
  /** Undefined where only reading tells: of what is compressed or encrypted on the way. */
  readonly bytes: number | undefined;
  /** Set where they are in memory anyway. */
  readonly held?: Buffer;
  /**
   * Each reading begins anew.
   *
   * @param range a part, only where `bytes` is known. Default: all
   * @throws while it is read when there is no more of it: what was read so far must not pass for the whole
   */
  readonly read: (range?: ByteRange) => AsyncIterable<Buffer>;
}

/** Offsets of bytes; `end` is not included. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** As much of an AbortSignal as it takes to hear that one has to stop. */
export interface Halting {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

export interface SendOptions {
  /** Aborted when the attempt's time is over or the process is shutting down. */
  readonly signal: AbortSignal;
  /** The same, for a fraction of what it costs to listen to a signal. */
  readonly halt?: Halting;
  /** The same for every attempt to deliver the same thing, new when a person asks for it again. */
  readonly attemptKey: string;
  /** The time of this attempt, for timestamps that are part of a signature. */
  readonly now: Date;
}

export interface LookupOptions {
  /** Of the attempt that is in doubt, as it was given to `send`. */
  readonly attemptKey: string;
  /** When that attempt began. */
  readonly since: Date;
  readonly signal: AbortSignal;
}

export interface CleanUpOptions {
  readonly organizationId: string;
  readonly now: Date;
  readonly signal: AbortSignal;
}

export interface CleanUp {
  /** Files that are gone. */
  readonly removed: number;
}

export type LookupResult =
  | { readonly kind: 'found'; readonly providerMessageId: string; readonly delivered: boolean }
  /** The records are complete, and it is not among them. */
  | { readonly kind: 'not-found' }
  /** No answer, or one that can be read either way. */
  | { readonly kind: 'unknown' };

export type SendOutcome =
  | {
      readonly kind: 'accepted';
      readonly providerMessageId?: string;
      /** Confirmed, not only accepted. */
      readonly delivered: boolean;
      /** Something the sender should know although the message was accepted (some recipients refused). */
      readonly warning?: string;
    }
  | {
      readonly kind: 'rejected';
      readonly category: ErrorCategory;
      /** Short and stable: `HTTP_503`, `SMTP_550`, `TIMEOUT`, `ECONNREFUSED`, `BLOCKED_ADDRESS`, `TEMPLATE_ERROR`. */
      readonly code: string;
      /** For a person; no secrets, no content, at most 500 characters. */
      readonly detail: string;
      /** The provider's own wish (Retry-After), in milliseconds from now. */
      readonly retryAfterMs?: number;
      /** The receiver is gone for good (HTTP 410, a device without the app): its destination is to be disabled, its address suppressed. */
      readonly gone?: boolean;
      /** The request may have taken effect although no answer came: where nothing protects the receiver, as after a crash. */
      readonly inDoubt?: boolean;
    };

export interface CallbackRequest {
  readonly method: string;
  /** As the provider called it: signatures cover it. */
  readonly url: string;
  /** Names in lower case. */
  readonly headers: { readonly [name: string]: string | string[] | undefined };
  readonly body: Buffer;
  /** For the age of signatures. */
  readonly now: Date;
}

export type Callback =
  /** `reply`: the body that the provider expects; nothing by default. */
  | {
      readonly kind: 'verified';
      readonly reports: readonly ProviderReport[];
      readonly reply?: CallbackReply;
      readonly answer?: ApprovalAnswer;
    }
  /** It is not from the provider, or cannot be known to be. `reason` for the access log: short, without content. */
  | { readonly kind: 'refused'; readonly reason: string };

/** What somebody answered to a message that asked for an approval, in the place where it was asked. */
export interface ApprovalAnswer {
  /** Of the message that asked. */
  readonly providerMessageId: string;
  readonly outcome: 'approve' | 'reject';
  /** Who answered, as the log names actors; missing for somebody whom the configuration does not name. */
  readonly approver?: string;
  /** Tells whoever answered what came of it; `isFinal` when nobody is to answer any more. Rejects where that fails. */
  tell(text: string, isFinal: boolean): Promise<void>;
}

export interface CallbackReply {
  readonly contentType: string;
  readonly body: string;
}

export interface ConnectionTest {
  readonly ok: boolean;
  readonly latencyMs: number;
  readonly problems: FieldProblem[];
}
