/** What a queue does here. One implementation a file, each in a process of its own (peer-main.ts). */

export interface Delivery {
  /** In the webhook-id, so that the receiver can tell a repeated post from another one. */
  readonly id: string;
  /** 500 bytes as JSON. */
  readonly data: object;
}

export interface Peer {
  /** @returns their ids, in order, when the deliveries are stored as durably as this peer stores anything */
  accept(data: readonly object[]): Promise<readonly string[]>;
  /** How many are delivered since the start, by what is stored: not by what is in memory. */
  settled(): Promise<number>;
}

/** The one post of a delivery; rejects when the receiver does not take it. */
export type Post = (delivery: Delivery) => Promise<void>;

/**
 * Begins to work. The process ends it: nothing is left to do then, and the store goes, too.
 *
 * @param store a PostgreSQL URL of an empty database, or the socket of an empty Redis
 */
export type OpenPeer = (store: string, post: Post) => Promise<Peer>;

/** As many as there are connections to the receiver, in each peer and in the raw loop. */
export const POSTS_AT_ONCE = 128;
