import type { sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import { defineService } from './definition.js';
import { decodeEmpty } from './requests.js';
import { encodeClusterInfo, type Member } from './responses.js';

export const gossipDefinition = defineService('event_store.client.gossip.Gossip', {
  Read: { decode: decodeEmpty },
});

export const gossipOf = (member: () => Member): UntypedServiceImplementation => ({
  Read: (_: unknown, reply: sendUnaryData<Buffer>) => reply(null, encodeClusterInfo(member())),
});
