import { z } from 'zod';
import type { ErrorCategory, JsonObject } from '../../domain/vocabulary.js';
import type { ConfigOf, Declaration } from '../adapter.js';
import { SnsMessages } from '../callbacks/sns-message.js';
import type { CallbackRequest, OutgoingMessage, SendOptions } from '../channel.js';
import { inDoubt } from '../config.js';
import { compose, emailFields, recipient } from '../email/compose.js';
import { rawMessage } from '../email/mime.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { accepted } from '../outcome.js';
import { AwsService, awsFields } from '../vendors/aws.js';

/** E-mail through Amazon SES v2 (https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html). */
const DECLARATION: Declaration = {
  channel: 'EMAIL',
  provider: 'ses',
  configKey: 'email',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested: "Reads the account's sending limits, which needs the permission ses:GetAccount.",
  /** The quota of a raw message after encoding (https://docs.aws.amazon.com/ses/latest/dg/quotas.html). */
  limits: { maxBytes: 40 * 1_024 * 1_024, timeoutMs: 30_000 },
};

/** Recipients of one message, copies included (same page as the quotas). */
const RECIPIENTS = 50;
/** Labels of one message, ours included. */
const TAGS = 50;

const schema = (egress: Egress) =>
  z.strictObject({
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
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('resend'),
    ...emailFields,
    recipients: emailFields.recipients
      .max(RECIPIENTS, `must name at most ${RECIPIENTS} addresses`)
      .describe('Who gets each message, all of them in one; 1 to 50 addresses.'),
  });

type SesConfig = ConfigOf<typeof schema>;

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

export class SesAdapter extends AwsService<SesConfig> {
  readonly #events: SnsMessages;

  constructor(egress: Egress) {
    super(
      egress,
      {
        name: 'SES',
        errors: {
          source: 'https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html',
          categories: CATEGORIES,
        },
      },
      DECLARATION,
      schema(egress),
      recipient,
    );
    this.#events = new SnsMessages(egress);
  }

  parseCallback(request: CallbackRequest, config: JsonObject) {
    return this.#events.parse(request, config as unknown as SesConfig);
  }

  /** The account's sending limits. */
  protected async read(_: SesConfig, options: object) {
    const { SESv2Client, GetAccountCommand } = await import('@aws-sdk/client-sesv2');
    return await new SESv2Client(options).send(new GetAccountCommand({}));
  }

  protected async deliver(config: SesConfig, message: OutgoingMessage, { attemptKey, now, signal }: SendOptions) {
    const { maxBytes } = DECLARATION.limits;
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
    const call = await this.call(config, signal, (options) => new SESv2Client(options).send(command));
    return call.value ? accepted(call.value.MessageId) : this.refusal(call, config, message, now);
  }
}
