import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import { type AwsConfig, awsCall, awsFields, awsRefusal, awsSecrets, awsTest } from '../aws.js';
import { SnsMessages } from '../callbacks/sns-message.js';
import type {
  CallbackRequest,
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { inDoubt, problemsOf, timeout } from '../config.js';
import type { Egress } from '../egress.js';
import { compose, type EmailConfig, emailFields, emailSecrets, problemWithAddress, withRecipient } from '../email.js';
import { rawMessage } from '../mime.js';

/** E-mail through Amazon SES v2 (https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html). */
const DESCRIPTION: ChannelDescription = {
  channel: 'EMAIL',
  provider: 'ses',
  configKey: 'email',
  secretFields: [...awsSecrets, ...emailSecrets],
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  /** The quota of a raw message after encoding (https://docs.aws.amazon.com/ses/latest/dg/quotas.html). */
  limits: { maxBytes: 40 * 1_024 * 1_024, timeoutMs: 30_000 },
};

interface SesConfig extends AwsConfig, EmailConfig {
  readonly configurationSet?: string;
}

/** SendEmail's own errors (same page, "Errors"). */
const CATEGORIES: Readonly<Record<string, ErrorCategory>> = {
  AccountSuspendedException: 'CONFIGURATION',
  BadRequestException: 'VALIDATION',
  LimitExceededException: 'RATE_LIMIT',
  MailFromDomainNotVerifiedException: 'CONFIGURATION',
  MessageRejected: 'PERMANENT',
  NotFoundException: 'CONFIGURATION', // no such configuration set
  SendingPausedException: 'CONFIGURATION',
};

/** Recipients of one message, copies included (same page as the quotas). */
const RECIPIENTS = 50;
/** Labels of one message, ours included. */
const TAGS = 50;

export class SesAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly #events: SnsMessages;
  readonly schema: z.ZodType;

  constructor(egress: Egress) {
    this.#egress = egress;
    this.#events = new SnsMessages(egress);
    this.schema = z.strictObject({
      service: z.literal('ses').describe('Chooses this provider.'),
      ...awsFields(egress),
      configurationSet: z
        .string()
        .regex(/^[\w-]{1,64}$/, 'must be 1 to 64 letters, digits, underscores or dashes')
        .optional()
        .describe('Says where SES publishes events; callbacks need one.'),
      snsTopicArn: z
        .string()
        .regex(/^arn:aws[\w-]*:sns:[a-z0-9-]+:\d{12}:[\w-]{1,256}$/, 'must be the ARN of a topic')
        .optional()
        .describe('Topic of Amazon SNS that events are published to. Without it callbacks are refused.'),
      timeout: timeout(DESCRIPTION.limits.timeoutMs),
      inDoubt: inDoubt('resend'),
      ...emailFields,
      recipients: emailFields.recipients
        .max(RECIPIENTS, `must name at most ${RECIPIENTS} addresses`)
        .describe('Who gets each message, all of them in one; 1 to 50 addresses.'),
    });
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return withRecipient(config, address);
  }

  validateAddress(address: string): string | undefined {
    return problemWithAddress(address);
  }

  parseCallback(request: CallbackRequest, config: JsonObject) {
    return this.#events.parse(request, config);
  }

  /** Reads the account's sending limits. */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const ses = config as unknown as SesConfig;
    const { timeoutMs } = DESCRIPTION.limits;
    const startedAt = performance.now();
    const call = await awsCall(this.#egress, ses, { timeoutMs, signal }, async (options) => {
      const { SESv2Client, GetAccountCommand } = await import('@aws-sdk/client-sesv2');
      return await new SESv2Client(options).send(new GetAccountCommand({}));
    });
    return awsTest(call, 'SES', ses, startedAt);
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as SesConfig;
    const { maxBytes, timeoutMs } = DESCRIPTION.limits;
    const mail = await compose(message, { attemptKey, maxBytes });
    if (mail.kind === 'rejected') return mail;
    const raw = await rawMessage(mail, now);
    // Loaded by the first message: it takes 0.3 s.
    const { SESv2Client, SendEmailCommand } = await import('@aws-sdk/client-sesv2');
    const command = new SendEmailCommand({
      FromEmailAddress: mail.from.address,
      Destination: { ToAddresses: [...mail.to], CcAddresses: [...mail.cc], BccAddresses: [...mail.bcc] },
      Content: { Raw: { Data: raw } },
      ...(config.configurationSet !== undefined && { ConfigurationSetName: config.configurationSet }),
      // Come back with every event. Letters, digits, underscores and dashes only.
      EmailTags: [
        { Name: 'deliveryId', Value: message.deliveryId },
        { Name: 'attemptKey', Value: attemptKey },
        ...mail.tags.map((tag, index) => ({ Name: `tag_${index + 1}`, Value: tag.replace(/[^\w-]/g, '_') })),
      ].slice(0, TAGS),
    });
    const call = await awsCall(this.#egress, config, { timeoutMs, signal }, (options) =>
      new SESv2Client(options).send(command),
    );
    if (!call.value) return awsRefusal(call, 'SES', CATEGORIES, { config, message, now });
    const { MessageId: id } = call.value;
    return { kind: 'accepted', delivered: false, ...(id !== undefined && { providerMessageId: id }) };
  }
}
