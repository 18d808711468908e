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
import { checked, problemsOf, timeout } from '../config.js';
import type { Egress } from '../egress.js';
import { rejected } from '../outcome.js';
import { problemWithNumber } from '../sms.js';
import { spokenTextOf, type VoiceConfig, voiceFields } from '../voice.js';

/**
 * Calls through Amazon Connect (https://docs.aws.amazon.com/connect/latest/APIReference/API_StartOutboundVoiceContact.html).
 * What a call does is a flow of the customer's, which reads aloud the attribute `waybillText`, asks for digits, and so on.
 */
const DESCRIPTION: ChannelDescription = {
  channel: 'VOICE',
  provider: 'connect',
  configKey: 'voice',
  secretFields: awsSecrets,
  /** By ClientToken, for seven days (same page). */
  idempotency: 'keyed',
  acceptanceIsDelivery: false,
  inDoubt: 'resend',
  /** UTF-8 bytes of all attributes of a contact together (same page, "Attributes"). */
  limits: { maxBytes: 32_768, timeoutMs: 15_000 },
};

interface ConnectConfig extends AwsConfig, VoiceConfig {
  readonly instanceId: string;
  readonly contactFlowId: string;
  readonly from?: string;
  readonly queueId?: string;
  readonly to: string;
  readonly attributes?: Readonly<Record<string, string>>;
  readonly ringSeconds?: number;
}

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

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const id = z.string().regex(UUID, 'must be the id at the end of its ARN');

export class ConnectAdapter implements ChannelAdapter {
  readonly #egress: Egress;
  readonly schema: z.ZodType;

  constructor(egress: Egress) {
    this.#egress = egress;
    this.schema = z
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
            z
              .string()
              .regex(/^(?!waybill)[\w-]{1,100}$/, 'must be letters, digits, _ and -, not beginning with waybill'),
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
        timeout: timeout(DESCRIPTION.limits.timeoutMs),
      })
      .refine(({ from, queueId }) => from !== undefined || queueId !== undefined, {
        path: ['from'],
        message: 'is required unless there is a queueId',
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

  /** Reads the flow, which needs the instance and the flow to be there, and the permission connect:DescribeContactFlow. */
  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const connect = config as unknown as ConnectConfig;
    const { timeoutMs } = DESCRIPTION.limits;
    const startedAt = performance.now();
    const call = await awsCall(this.#egress, connect, { timeoutMs, signal }, async (options) => {
      const { ConnectClient, DescribeContactFlowCommand } = await import('@aws-sdk/client-connect');
      const { instanceId: InstanceId, contactFlowId: ContactFlowId } = connect;
      return await new ConnectClient(options).send(new DescribeContactFlowCommand({ InstanceId, ContactFlowId }));
    });
    return awsTest(call, 'Connect', connect, startedAt);
  }

  async send(message: OutgoingMessage, { attemptKey, now, signal }: SendOptions): Promise<SendOutcome> {
    const config = message.config as unknown as ConnectConfig;
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
    const { maxBytes, timeoutMs } = DESCRIPTION.limits;
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
    const call = await awsCall(this.#egress, config, { timeoutMs, signal }, (options) =>
      new ConnectClient(options).send(command),
    );
    if (!call.value) return awsRefusal(call, 'Connect', CATEGORIES, { config, message, now });
    const { ContactId } = call.value;
    return { kind: 'accepted', delivered: false, ...(ContactId !== undefined && { providerMessageId: ContactId }) };
  }
}
