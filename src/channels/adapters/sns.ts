import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import { type ConfigOf, type Declaration, inField } from '../adapter.js';
import type { OutgoingMessage, SendOptions } from '../channel.js';
import { checked, inDoubt } from '../config.js';
import { isSenderName, problemWithNumber, smsFields, textOf } from '../messages/sms.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { accepted } from '../outcome.js';
import { AwsService, awsFields } from '../vendors/aws.js';

/** Text messages through Amazon SNS (https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html). */
const DECLARATION: Declaration = {
  channel: 'SMS',
  provider: 'sns',
  configKey: 'sms',
  idempotency: 'none',
  acceptanceIsDelivery: false,
  inDoubt: 'hold',
  tested: "Reads the account's settings for text messages, which needs the permission sns:GetSMSAttributes.",
  limits: { maxBytes: 1_600, timeoutMs: 15_000 },
};

/** SNS takes 1,600 characters of GSM-7 for one message and cuts them itself (same guide, "Publishing to a phone"). */
const SEGMENTS = 10;

const schema = (egress: Egress) =>
  z.strictObject({
    service: z.literal('sns').describe('Chooses this provider.'),
    ...awsFields(egress),
    senderId: checked((name) => (isSenderName(name) ? undefined : 'must be 1 to 11 letters and digits'))
      .optional()
      .describe('Name shown as the sender, where the country allows it.'),
    originationNumber: checked(problemWithNumber).optional().describe('Number of this account to send from.'),
    ...smsFields(SEGMENTS),
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
    ...outbound(egress, DECLARATION.limits.timeoutMs),
    inDoubt: inDoubt('hold'),
  });

type SnsConfig = ConfigOf<typeof schema>;

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

export class SnsAdapter extends AwsService<SnsConfig> {
  constructor(egress: Egress) {
    const service = {
      name: 'SNS',
      errors: { source: 'https://docs.aws.amazon.com/sns/latest/api/API_Publish.html', categories: CATEGORIES },
    };
    super(egress, service, DECLARATION, schema(egress), inField('to', problemWithNumber));
  }

  /** The account's settings for text messages. */
  protected async read(_: SnsConfig, options: object) {
    const { SNSClient, GetSMSAttributesCommand } = await import('@aws-sdk/client-sns');
    return await new SNSClient(options).send(new GetSMSAttributesCommand({}));
  }

  protected async deliver(config: SnsConfig, message: OutgoingMessage, { now, signal }: SendOptions) {
    const text = textOf(message, { segments: config.maxSegments ?? SEGMENTS });
    if (typeof text !== 'string') return text;
    const { to, senderId, originationNumber, messageType = 'Transactional', maxPrice } = config;
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
    const call = await this.call(config, signal, (options) => new SNSClient(options).send(command));
    return call.value ? accepted(call.value.MessageId) : this.refusal(call, config, message, now);
  }
}
