import type { JsonObject } from '../../../src/domain/vocabulary.js';
import type { Answer, Reaction } from '../../support/peers/http-peer.js';
import { startWebhookReceiver, type WebhookReceiver } from '../../support/peers/webhook-receiver.js';
import type { Behaviour, Peer } from './conformance.js';

/** Recorders as the peers of the conformance suite. */

/** What a provider answers when it does that to a message; undefined lets it through. */
export type Reactions<Reply = Reaction> = Readonly<Record<Behaviour, Reply | undefined>>;

/** The answers of a provider that refuses with a status and its own words. */
export const refusing = (refuse: (status: number) => Answer, retryAfterSeconds: number): Reactions => ({
  accepts: undefined,
  unavailable: refuse(503),
  unauthorized: refuse(401),
  limited: {
    ...refuse(429),
    headers: { ...refuse(429).headers, 'retry-after': String(retryAfterSeconds) },
  },
  silent: 'silence',
  drops: 'drop',
});

interface Recording<Reply> {
  readonly port: number;
  respond: (request: never) => Reply | undefined;
  close(): Promise<void>;
}

/** A peer that can be told what to answer, too. */
export interface AnsweringPeer<Reply = Reaction> extends Peer {
  answer(reply: Reply | undefined): void;
}

export function answering<Reply>(
  recorder: Recording<Reply>,
  config: JsonObject,
  reactions: Reactions<Reply>,
  counts: Pick<Peer, 'seen' | 'accepted'>,
): AnsweringPeer<Reply> {
  const answer = (reply: Reply | undefined) => {
    recorder.respond = () => reply;
  };
  return {
    config,
    port: recorder.port,
    answer,
    behave: (behaviour) => answer(reactions[behaviour]),
    seen: counts.seen,
    accepted: counts.accepted,
    close: recorder.close,
  };
}

/** A recorder that keeps all requests and the messages it has accepted. */
export const recording = <Reply>(
  recorder: Recording<Reply> & { readonly requests: readonly unknown[]; readonly received: readonly unknown[] },
  config: JsonObject,
  reactions: Reactions<Reply>,
): AnsweringPeer<Reply> =>
  answering(recorder, config, reactions, {
    seen: () => recorder.requests.length,
    accepted: () => recorder.received.length,
  });

/** A receiver that takes what is posted to it, for providers that nothing more is known of. */
export async function receiving(
  configOf: (receiver: WebhookReceiver) => JsonObject,
  reactions: Readonly<Record<Behaviour, Reaction>>,
): Promise<AnsweringPeer> {
  const receiver = await startWebhookReceiver();
  let reaction: Reaction | undefined = reactions.accepts;
  let accepted = 0;
  receiver.respond = ({ method }) => {
    if (reaction === reactions.accepts && method !== 'HEAD') accepted += 1;
    return reaction ?? reactions.accepts;
  };
  return {
    config: configOf(receiver),
    port: receiver.port,
    answer: (next) => {
      reaction = next;
    },
    behave: (behaviour) => {
      reaction = reactions[behaviour];
    },
    seen: () => receiver.received.length,
    accepted: () => accepted,
    close: receiver.close,
  };
}
