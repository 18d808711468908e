import type { ServiceDefinition } from '@grpc/grpc-js';

interface Method {
  readonly decode: (bytes: Buffer) => unknown;
  /** What there is any number of, instead of one; default nothing. */
  readonly streams?: 'requests' | 'responses' | 'both';
}

const asIs = (bytes: Buffer): Buffer => bytes;

/** A gRPC service whose requests come decoded and whose handlers answer with encoded messages. */
export function defineService(service: string, methods: Readonly<Record<string, Method>>): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(methods).map(([name, { decode, streams }]) => [
      name,
      {
        path: `/${service}/${name}`,
        requestStream: streams === 'requests' || streams === 'both',
        responseStream: streams === 'responses' || streams === 'both',
        requestSerialize: asIs,
        requestDeserialize: decode,
        responseSerialize: asIs,
        responseDeserialize: asIs,
      },
    ]),
  );
}
