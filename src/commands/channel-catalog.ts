import type { RetryPolicy } from '../domain/retry-policy.js';
import type { Channel, Content, FieldProblem, JsonObject } from '../domain/vocabulary.js';

/** A path into a configuration, key by key. */
export type ConfigPath = readonly string[];

export type SigningKind = 'HMAC_SHA256' | 'ED25519';

export interface SigningSecret {
  /** Where it goes in the configuration. */
  readonly path: ConfigPath;
  readonly secret: string;
  /** The receiver needs it to check signatures; of others the configuration has the public half. */
  readonly isShared: boolean;
}

/**
 * What intake needs to know of channels: enough to refuse what could never be sent, and to keep secrets apart. The
 * channels themselves are plugged in at the top of the application.
 */
export interface ChannelCatalog {
  /** Problems of a destination's `config`, with paths that begin with `config`. */
  configProblems(channel: Channel, config: JsonObject): FieldProblem[];
  /** Where in this `config` the secrets are. */
  secretPaths(channel: Channel, config: JsonObject): ConfigPath[];
  /** Those of them that are sent to the server to be let in; the others only sign. */
  credentialPaths(channel: Channel, config: JsonObject): ConfigPath[];
  /** A new secret for channels that sign, of the kind that is wished, else of the one that `config` asks for. */
  newSigningSecret(channel: Channel, config: JsonObject, wish?: SigningKind): SigningSecret | undefined;
  /** `config` with what follows from it: public keys of the secrets that have one. */
  completed(channel: Channel, config: JsonObject): JsonObject;
  /** `config` with a new signing secret beside the old one, which stays good for a while. */
  rotated(channel: Channel, config: JsonObject, secret: string, previousUntil: Date): JsonObject | undefined;
  /** The part of `config` that says who may decide, if it has one: that is for administrators to say. */
  approvers(channel: Channel, config: JsonObject): ConfigPath | undefined;
  /** Whom this configuration's credentials are shown to: the server, as far as it can be chosen. */
  server(channel: Channel, config: JsonObject): string;
  /** What is wrong with a bare address, or undefined. */
  addressProblem(channel: Channel, address: string): string | undefined;
  /** What is wrong with the wish for this provider (or any, when none is named), or undefined. */
  providerProblem(channel: Channel, provider: string | undefined): string | undefined;
  /** What is wrong with the parts of a content that only some channels have; paths begin with `content`. */
  contentProblems(content: Content): FieldProblem[];
  /** How many people or systems one message to this configuration reaches. */
  recipients(channel: Channel, config: JsonObject): number;
  /** The retry wishes in the configuration itself (`retryConfig` of seed 4). */
  retryPolicy(channel: Channel, config: JsonObject): Partial<RetryPolicy> | undefined;
}
