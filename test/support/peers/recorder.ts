import { type Answer, type Reaction, type RecordedRequest, startHttpPeer } from './http-peer.js';

/** A stand-in for a provider's API that nobody can run: it answers as documented and keeps what it accepts. */
export interface Recorder<Message> {
  /** To be given as `endpoint`. */
  readonly url: string;
  readonly port: number;
  /** All requests, also the refused ones. */
  readonly requests: RecordedRequest[];
  /** The messages that were accepted. */
  readonly received: Message[];
  /** Answers instead of the provider; undefined lets the request through. */
  respond: (request: RecordedRequest) => Reaction | undefined;
  close(): Promise<void>;
}

export async function startRecorder<Message>(
  answer: (request: RecordedRequest, accept: (message: Message) => void) => Answer | Promise<Answer>,
): Promise<Recorder<Message>> {
  const received: Message[] = [];
  const peer = await startHttpPeer(
    (request) => recorder.respond(request) ?? answer(request, (message) => received.push(message)),
  );
  const recorder: Recorder<Message> = {
    url: peer.origin,
    port: peer.port,
    requests: peer.received,
    received,
    respond: () => undefined,
    close: peer.close,
  };
  return recorder;
}
