import { z } from 'zod';
import type { ErrorCategory } from '../../domain/vocabulary.js';
import { type ConfigOf, type Declaration, inField } from '../adapter.js';
import type { OutgoingMessage, SendOptions } from '../channel.js';
import { checked } from '../config.js';
import { problemWithNumber } from '../messages/sms.js';
import { spokenTextOf, voiceFields } from '../messages/voice.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { accepted, rejected } from '../outcome.js';
import { AwsService, awsFields } from '../vendors/aws.js';

/**
 * Calls through Amazon Connect (https://docs.aws.amazon.com/connect/latest/APIReference/API_StartOutboundVoiceContact.html).
 * What a call does is a flow of the customer's, which reads aloud the attribute `waybillText`, asks for digits, and so on.
 */
const DECLARATION: Declaration = {
  channel: 'VOICE',
  provider: 'connect',
  configKey: 'voice',
  /** By ClientToken, for seven days (same page). */
  idempotency: 'keyed',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  tested:
    'Reads the flow, which needs the instance and the flow to be there, and the permission connect:DescribeContactFlow.',
  /** UTF-8 bytes of all attributes of a contact together (same page, "Attributes"). */
  limits: { maxBytes: 32_768, timeoutMs: 15_000 },
};

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const id = z.string().regex(UUID, 'must be the id at the end of its ARN');

const schema = (egress: Egress) =>
  z
    .strictObject({
      service: z.literal('connect').describe('Chooses this provider.'),
      ...awsFields(egress),
      instanceId: id.describe('The instance of Amazon Connect.'),
      contactFlowId: id.describe('The flow that a call runs through. It says `$.Attributes.waybillText`.'),
      from: checked(problemWithNumber)
        .optional()
        .describe('The number that calls, one of the instance. Needed unless there is a queue.'),
      queueId: id.optional().describe('The queue whose number calls. Needed unless there is a number.'),
      to: checked(problemWithNumber).describe('Who is called, as +15551234567.'),
      ...voiceFields,
      attributes: z
        .record(
          z.string().regex(/^(?!waybill)[\w-]{1,100}$/, 'must be letters, digits, _ and -, not beginning with waybill'),
          z.string().max(1_000),
        )
        .optional()
        .describe(
          'More attributes for the flow, beside `waybillText`, `waybillLanguage`, `waybillSubject` and `waybillDelivery`.',
        ),
      ringSeconds: z
        .int()
        .min(15)
        .max(60)
        .optional()
        .describe("How long it rings before the call is given up. Default: the service's own."),
      ...outbound(egress, DECLARATION.limits.timeoutMs),
    })
    .refine(({ from, queueId }) => from !== undefined || queueId !== undefined, {
      path: ['from'],
      message: 'is required unless there is a queueId',
    });

type ConnectConfig = ConfigOf<typeof schema>;

/** StartOutboundVoiceContact's own errors (same page). */
const CATEGORIES: Readonly<Record<string, ErrorCategory>> = {
  DestinationNotAllowedException: 'CONFIGURATION', // the instance may not call that country
  InternalServiceException: 'TEMPORARY',
  InvalidParameterException: 'VALIDATION',
  InvalidRequestException: 'VALIDATION',
  LimitExceededException: 'RATE_LIMIT',
  OutboundContactNotPermittedException: 'PERMANENT',
  ResourceNotFoundException: 'CONFIGURATION', // no such instance, flow or queue
};

export class ConnectAdapter extends AwsService<ConnectConfig> {
  constructor(egress: Egress) {
    const service = {
      name: 'Connect',
      errors: {
        source: 'https://docs.aws.amazon.com/connect/latest/APIReference/API_StartOutboundVoiceContact.html',
        categories: CATEGORIES,
      },
    };
    super(egress, service, DECLARATION, schema(egress), inField('to', problemWithNumber));
  }

  /** The flow, which needs the instance and the flow to be there, and the permission connect:DescribeContactFlow. */
  protected async read({ instanceId: InstanceId, contactFlowId: ContactFlowId }: ConnectConfig, options: object) {
    const { ConnectClient, DescribeContactFlowCommand } = await import('@aws-sdk/client-connect');
    return await new ConnectClient(options).send(new DescribeContactFlowCommand({ InstanceId, ContactFlowId }));
  }

  protected async deliver(config: ConnectConfig, message: OutgoingMessage, { attemptKey, now, signal }: SendOptions) {
    const text = spokenTextOf(message, config);
    if (typeof text !== 'string') return text;
    const { subject } = message.content;
    const attributes = {
      ...config.attributes,
      waybillText: text,
      waybillLanguage: config.language ?? 'en-US',
      waybillDelivery: message.deliveryId,
      ...(subject !== undefined && { waybillSubject: subject }),
    };
    const size = Buffer.byteLength(Object.entries(attributes).flat().join(''));
    const { maxBytes } = DECLARATION.limits;
    if (size > maxBytes)
      return rejected('VALIDATION', 'TOO_LARGE', `the attributes of the call have ${size} bytes, ${maxBytes} fit`);
    const { ConnectClient, StartOutboundVoiceContactCommand } = await import('@aws-sdk/client-connect');
    const { instanceId, contactFlowId, to, from, queueId, ringSeconds } = config;
    const command = new StartOutboundVoiceContactCommand({
      InstanceId: instanceId,
      ContactFlowId: contactFlowId,
      DestinationPhoneNumber: to,
      ClientToken: attemptKey,
      Attributes: attributes,
      ...(from !== undefined && { SourcePhoneNumber: from }),
      ...(queueId !== undefined && { QueueId: queueId }),
      ...(ringSeconds !== undefined && { RingTimeoutInSeconds: ringSeconds }),
    });
    const call = await this.call(config, signal, (options) => new ConnectClient(options).send(command));
    return call.value ? accepted(call.value.ContactId) : this.refusal(call, config, message, now);
  }
}
