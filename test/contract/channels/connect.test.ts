import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ConnectAdapter } from '../../../src/channels/adapters/connect.js';
import { Egress } from '../../../src/channels/net/egress.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { awsJsonError, startAwsRecorder } from '../../support/peers/aws-recorder.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import type { Recorder } from '../../support/peers/recorder.js';
import { conforms, LOOPBACK, messageOf, options } from './conformance.js';
import { type Reactions, recording } from './peers.js';

const AWS = { region: 'eu-central-1', accessKeyId: 'AKIAEXAMPLE0000000', secretAccessKey: 'aws-s3cret-of-the-account' };
const content: Content = { subject: 'Alarm', text: 'The server room is on fire' };
const QUOTE = `${AWS.secretAccessKey} +14155552671 server room is on fire`;
const error = (status: number, type: string): Reaction => awsJsonError(status, type, QUOTE);

const REACTIONS: Reactions = {
  accepts: undefined,
  unavailable: error(500, 'InternalServiceException'),
  unauthorized: error(403, 'AccessDeniedException'),
  limited: {
    ...awsJsonError(429, 'LimitExceededException', QUOTE),
    headers: { 'x-amzn-errortype': 'LimitExceededException', 'retry-after': '2' },
  },
  silent: 'silence',
  drops: 'drop',
};

const configOf = (endpoint: string, change: JsonObject = {}): JsonObject => ({
  service: 'connect',
  ...AWS,
  instanceId: '0b1f2c3d-1111-4222-8333-444455556666',
  contactFlowId: '846ec553-a005-41c0-8341-123456789012',
  from: '+14155550100',
  to: '+14155552671',
  endpoint,
  ...change,
});

conforms({
  name: 'connect',
  create: (egress) => new ConnectAdapter(egress),
  async start() {
    const recorder = await startAwsRecorder(AWS.accessKeyId, AWS.region);
    return recording(recorder, configOf(recorder.url), REACTIONS);
  },
  bad: [
    { change: { region: 'Frankfurt' }, path: 'region' },
    { change: { instanceId: 'arn:aws:connect' }, path: 'instanceId' },
    { change: { contactFlowId: 'flow' }, path: 'contactFlowId' },
    { change: { queueId: 'queue' }, path: 'queueId' },
    { change: { from: '110' }, path: 'from' },
    { change: { to: '110' }, path: 'to' },
    { change: { ringSeconds: 10 }, path: 'ringSeconds' },
    { change: { attributes: { waybillText: 'mine' } }, path: 'attributes.waybillText' },
    { change: { endpoint: 'http://169.254.169.254' }, path: 'endpoint' },
  ],
  refusals: [
    ['InvalidParameterException', 'VALIDATION', 'AWS_INVALID_PARAMETER'] as const,
    ['DestinationNotAllowedException', 'CONFIGURATION', 'AWS_DESTINATION_NOT_ALLOWED'] as const,
    ['OutboundContactNotPermittedException', 'PERMANENT', 'AWS_OUTBOUND_CONTACT_NOT_PERMITTED'] as const,
    ['ResourceNotFoundException', 'CONFIGURATION', 'AWS_RESOURCE_NOT_FOUND'] as const,
  ].map(([type, category, code]) => ({
    when: type,
    behave: (peer: { answer(reaction: Reaction): void }) => peer.answer(error(400, type)),
    category,
    code,
  })),
  redirect: (port) => ({ endpoint: `http://127.0.0.1:${port}` }),
  addresses: { good: '+4915123456789', bad: '015123456789' },
  content,
  confidential: [AWS.secretAccessKey, '+14155552671', 'server room is on fire'],
  retryAfterMs: 2_000,
});

describe('a call through Amazon Connect', () => {
  let recorder: Recorder<Readonly<Record<string, unknown>>>;
  let egress: Egress;
  let adapter: ConnectAdapter;
  beforeEach(async () => {
    recorder = await startAwsRecorder(AWS.accessKeyId, AWS.region);
    egress = new Egress({ allowedNetworks: LOOPBACK });
    adapter = new ConnectAdapter(egress);
  });
  afterEach(async () => {
    await recorder.close();
    await egress.destroy();
  });
  const send = (change: JsonObject = {}, message: Content = content) =>
    adapter.send(messageOf(configOf(recorder.url, change), message), options());

  it('gives the flow what it is to say', async () => {
    await send(
      { language: 'de-DE', bodyTemplate: 'Raum {{room}}', ringSeconds: 30, attributes: { team: 'night' } },
      {
        ...content,
        data: { room: 12 },
      },
    );
    expect(recorder.received).toMatchObject([
      {
        InstanceId: '0b1f2c3d-1111-4222-8333-444455556666',
        ContactFlowId: '846ec553-a005-41c0-8341-123456789012',
        DestinationPhoneNumber: '+14155552671',
        SourcePhoneNumber: '+14155550100',
        RingTimeoutInSeconds: 30,
        ClientToken: 'attempt-0001',
        Attributes: {
          team: 'night',
          waybillText: 'Raum 12',
          waybillLanguage: 'de-DE',
          waybillSubject: 'Alarm',
          waybillDelivery: 'delivery-1',
        },
      },
    ]);
    expect(await send({}, {})).toMatchObject({ code: 'EMPTY_BODY' });
  });

  it('calls once, however often the same attempt is made', async () => {
    const first = await send();
    expect(await send()).toEqual(first);
    expect(first).toMatchObject({ kind: 'accepted', providerMessageId: expect.stringMatching(/^[0-9a-f-]{36}$/) });
    expect(recorder.received).toHaveLength(1);
  });

  it('calls from a queue, and from something in any case', async () => {
    const queueId = '11111111-2222-4333-8444-555566667777';
    const { from: _, ...without } = configOf(recorder.url);
    expect(adapter.validate(without)).toEqual([{ path: 'from', problem: 'is required unless there is a queueId' }]);
    expect(adapter.validate({ ...without, queueId })).toEqual([]);
    await adapter.send(messageOf({ ...without, queueId }, content), options());
    expect(recorder.received[0]).toMatchObject({ QueueId: queueId });
    expect(recorder.received[0]).not.toHaveProperty('SourcePhoneNumber');
  });

  it('finds wrong credentials, and a flow that is not there, without calling anybody', async () => {
    const test = (change: JsonObject = {}) => adapter.test(configOf(recorder.url, change), options());
    expect(await test({ accessKeyId: 'AKIASOMEONEELSE000' })).toMatchObject({
      ok: false,
      problems: [{ path: 'accessKeyId' }],
    });
    recorder.respond = () => error(404, 'ResourceNotFoundException');
    expect(await test()).toMatchObject({
      ok: false,
      problems: [{ problem: expect.stringContaining('ResourceNotFound') }],
    });
    expect(recorder.received).toHaveLength(0);
  });
});
