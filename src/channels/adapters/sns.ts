import { z } from 'zod';
import type { ErrorCategory, FieldProblem, JsonObject } from '../../domain/vocabulary.js';
import { type AwsConfig, awsCall, awsFields, awsRefusal, awsSecrets, awsTest } from '../aws.js';
import type {
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from '../channel.js';
import { checked, inDoubt, problemsOf, template, timeout } from '../config.js';
import type { Egress } from '../egress.js';
import { isSenderName, problemWithNumber, textOf } from '../sms.js';

/** Text messages through Amazon SNS (https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html). */
const DESCRIPTION: ChannelDescription = {
  channel: 'SMS',
  provider: 'sns',
  configKey: 'sms',
  secretFields: awsSecrets,
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'hold',
  limits: { maxBytes: 1_600, timeoutMs: 15_000 },
};

interface SnsConfig extends AwsConfig {
  readonly to: string;
  readonly senderId?: string;
  readonly originationNumber?: string;
  readonly messageType?: 'Transactional' | 'Promotional';
  readonly maxPrice?: number;
  readonly maxSegments?: number;
}

/** Publish's own errors (https://docs.aws.amazon.com/sns/latest/api/API_Publish.html). */
const CATEGORIES: Readonly<Record<string, ErrorCategory>> = {
  EndpointDisabledException: 'PERMANENT',
  InternalErrorException: 'TEMPORARY',
  InvalidParameterException: 'VALIDATION',
  InvalidParameterValueException: 'VALIDATION',
  OptedOutException: 'PERMANENT',
  PlatformApplicationDisabledException: 'CONFIGURATION',
  UserErrorException: 'VALIDATION',
  ValidationException: 'VALIDATION',
};

/** SNS takes 1,600 characters of GSM-7 for one message and cuts them itself (same guide, "Publishing to a phone"). */
const SEGMENTS = 10;

export class SnsAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly schema: z.ZodType;

  constructor(egress: Egress) {
    this.#egress = egress;
    this.schema = z.strictObject({
      service: z.literal('sns').describe('Chooses this provider.'),
      ...awsFields(egress),
      to: checked(problemWithNumber).describe('The recipient, as +15551234567.'),
      senderId: checked((name) => (isSenderName(name) ? undefined : 'must be 1 to 11 letters and digits'))
        .optional()
        .describe('Name shown as the sender, where the country allows it.'),
      originationNumber: checked(problemWithNumber).optional().describe('Number of this account to send from.'),
      messageType: z
        .enum(['Transactional', 'Promotional'])
        .optional()
        .describe('Critical messages are Transactional.')
        .meta({ default: 'Transactional' }),
      maxPrice: z
        .number()
        .min(0.001)
        .max(100)
        .optional()
        .describe('Most that one message may cost, in US dollars; SNS drops dearer ones. Default: no bound.'),
      maxSegments: z
        .int()
        .min(1)
        .max(SEGMENTS)
        .optional()
        .describe('Segments that one text may make; a longer one is refused.')
        .meta({ default: SEGMENTS }),
      bodyTemplate: template(10_000)
        .optional()
        .describe('Liquid template of the text; wins over the text of the request.'),
      timeout: timeout(DESCRIPTION.limits.timeoutMs),
      inDoubt: inDoubt('hold'),
    });
  }

  describe(): ChannelDescription {
    return DESCRIPTION;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return { ...config, to: address };
  }

  validateAddress(address: string): string | undefined {
    return problemWithNumber(address);
  }

  /** Reads the account's settings for text messages. */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const sns = config as unknown as SnsConfig;
    const { timeoutMs } = DESCRIPTION.limits;
    const startedAt = performance.now();
    const call = await awsCall(this.#egress, sns, { timeoutMs, signal }, async (options) => {
      const { SNSClient, GetSMSAttributesCommand } = await import('@aws-sdk/client-sns');
      return await new SNSClient(options).send(new GetSMSAttributesCommand({}));
    });
    return awsTest(call, 'SNS', sns, startedAt);
  }

  async send(message: OutgoingMessage, { now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as SnsConfig;
    const text = textOf(message, { segments: config.maxSegments ?? SEGMENTS });
    if (typeof text !== 'string') return text;
    const { to, senderId, originationNumber, messageType = 'Transactional', maxPrice } = config;
    const { timeoutMs } = DESCRIPTION.limits;
    const { SNSClient, PublishCommand } = await import('@aws-sdk/client-sns');
    const command = new PublishCommand({
      PhoneNumber: to,
      Message: text,
      MessageAttributes: {
        'AWS.SNS.SMS.SMSType': { DataType: 'String', StringValue: messageType },
        ...(senderId !== undefined && { 'AWS.SNS.SMS.SenderID': { DataType: 'String', StringValue: senderId } }),
        ...(originationNumber !== undefined && {
          'AWS.MM.SMS.OriginationNumber': { DataType: 'String', StringValue: originationNumber },
        }),
        ...(maxPrice !== undefined && {
          'AWS.SNS.SMS.MaxPrice': { DataType: 'Number', StringValue: String(maxPrice) },
        }),
      },
    });
    const call = await awsCall(this.#egress, config, { timeoutMs, signal }, (options) =>
      new SNSClient(options).send(command),
    );
    if (!call.value) return awsRefusal(call, 'SNS', CATEGORIES, { config, message, now });
    const { MessageId: id } = call.value;
    return { kind: 'accepted', delivered: false, ...(id !== undefined && { providerMessageId: id }) };
  }
}
