import type { z } from 'zod';
import type { FieldProblem, JsonObject } from '../domain/vocabulary.js';
import type {
  ChannelAdapter,
  ChannelDescription,
  ConnectionTest,
  OutgoingMessage,
  SendOptions,
  SendOutcome,
} from './channel.js';
import { problemsOf } from './config.js';
import { fieldsOf } from './config-fields.js';
import type { Rejected } from './outcome.js';

/** What every adapter says of itself; which fields are secret stands in its schema. */
export type Declaration = Omit<ChannelDescription, 'secretFields'> & { readonly tested: string };

/** What the schema that a function makes lets through: the type of `message.config`. */
export type ConfigOf<Schema extends (...parts: never) => z.ZodType> = Given<z.output<ReturnType<Schema>>>;

/** An optional field is missing or there; it is never undefined. */
type Given<T> = T extends readonly (infer Item)[]
  ? readonly Given<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: Given<Exclude<T[Key], undefined>> }
    : T;

/** What a bare address of the channel looks like, and where it goes in a configuration. */
export interface Address {
  /** What is wrong with it, undefined when nothing. */
  problem(address: string): string | undefined;
  into(config: JsonObject, address: string): JsonObject;
}

/** An address that is the value of one field. */
export const inField = (field: string, problem: Address['problem']): Address => ({
  problem,
  into: (config, address) => ({ ...config, [field]: address }),
});

/** What a test says of a field by what came of its call. */
export const problemAt = (path: string, { code, detail }: Rejected): FieldProblem => ({
  path,
  problem: `${code}: ${detail}`,
});

/** Stands for a message where there is none: in a test of the connection. */
export const NO_MESSAGE: OutgoingMessage = {
  deliveryId: '',
  organizationId: '',
  config: {},
  content: {},
  requestedAt: '',
};

/**
 * What all adapters do alike, so that the file of each has what is special about its provider: what it says of itself,
 * the schema of its configuration, one call that delivers and one that does not. `Config` is what the schema lets through.
 */
export abstract class Adapter<Config> implements ChannelAdapter {
  readonly schema: z.ZodType;
  readonly #description: ChannelDescription;
  readonly #address: Address;

  constructor(declaration: Declaration, schema: z.ZodType, address: Address) {
    this.schema = schema;
    this.#address = address;
    let secrets: readonly string[] | undefined;
    this.#description = {
      ...declaration,
      // Looked for when they are first asked for: it takes some milliseconds, which the start need not wait for.
      get secretFields() {
        secrets ??= secretsOf(schema);
        return secrets;
      },
    };
  }

  protected abstract deliver(config: Config, message: OutgoingMessage, options: SendOptions): Promise<SendOutcome>;

  /**
   * A call that needs the credentials and delivers nothing.
   *
   * @returns the field that is to blame and why, undefined when the provider lets us in
   */
  protected abstract probe(config: Config, signal: AbortSignal): Promise<FieldProblem | undefined>;

  describe(): ChannelDescription {
    return this.#description;
  }

  validate(config: JsonObject): FieldProblem[] {
    return problemsOf(this.schema, config);
  }

  withAddress(config: JsonObject, address: string): JsonObject {
    return this.#address.into(config, address);
  }

  validateAddress(address: string): string | undefined {
    return this.#address.problem(address);
  }

  async test(config: JsonObject, { signal }: { readonly signal: AbortSignal }): Promise<ConnectionTest> {
    const startedAt = performance.now();
    const problem = await this.probe(config as unknown as Config, signal);
    return { ok: !problem, latencyMs: performance.now() - startedAt, problems: problem ? [problem] : [] };
  }

  send(message: OutgoingMessage, options: SendOptions): Promise<SendOutcome> {
    return this.deliver(message.config as unknown as Config, message, options);
  }
}

const secretsOf = (schema: z.ZodType): string[] =>
  fieldsOf(schema)
    .filter(({ isSecret }) => isSecret)
    .map(({ path }) => path);
