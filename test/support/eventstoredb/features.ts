import type { ServiceDefinition, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import { defineService } from './definition.js';
import { decodeEmpty } from './requests.js';
import { encodeSupportedMethods } from './responses.js';

/** The version whose behaviour this server has. */
export const SERVER_VERSION = '24.6.0.0';

export const featuresDefinition = defineService('event_store.client.server_features.ServerFeatures', {
  GetSupportedMethods: { decode: decodeEmpty },
});

/** Tells exactly what the definitions have, each method in small letters as the real server does. */
export function featuresOf(definitions: readonly ServiceDefinition[]): UntypedServiceImplementation {
  const methods = definitions
    .flatMap((definition) => Object.values(definition))
    .map(({ path }) => {
      const [, service = '', method = ''] = path.toLowerCase().split('/');
      return { service, method, features: [] };
    });
  return {
    GetSupportedMethods: (_: unknown, reply: sendUnaryData<Buffer>) =>
      reply(null, encodeSupportedMethods(methods, SERVER_VERSION)),
  };
}
