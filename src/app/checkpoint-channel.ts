import type { SignedCheckpoint } from '../audit/checkpoint.js';
import type { CheckpointPublisher, PublicationLog } from '../audit/publications.js';
import type { ChannelAdapter } from '../channels/channel.js';
import { withDeadline } from '../channels/deadline.js';
import type { ChannelRegistry } from '../channels/registry.js';
import type { Channel, FieldProblem, JsonObject } from '../domain/vocabulary.js';
import { ConfigError } from '../platform/config.js';

export interface CheckpointChannelSettings {
  readonly name: string;
  readonly channel: Channel;
  /** As that of a destination. */
  readonly config: JsonObject;
  readonly everySeconds: number;
}

/** Of one attempt; a channel that is slower is tried again. */
const ATTEMPT_MS = 60_000;

/**
 * Publishes checkpoints through a channel: into a bucket with object lock, to an e-mail address, a webhook. What is sent
 * is a short text and two files, `checkpoint-<entries>.txt`, which is the signed note and nothing else, and
 * `public-keys.txt`.
 */
export class CheckpointChannel implements CheckpointPublisher {
  readonly name: string;
  readonly everyMs: number;
  readonly #adapter: ChannelAdapter;
  readonly #config: JsonObject;
  readonly #log: PublicationLog;

  /** @throws ChannelProblems */
  constructor(settings: CheckpointChannelSettings, registry: ChannelRegistry, log: PublicationLog) {
    const { name, channel, config, everySeconds } = settings;
    const problems = registry.validate(channel, config);
    const choice = registry.adapterFor(channel, config);
    if (problems.length > 0 || !('adapter' in choice)) throw new ChannelProblems(problems);
    this.name = name;
    this.everyMs = everySeconds * 1_000;
    this.#adapter = choice.adapter;
    this.#config = choice.config;
    this.#log = log;
  }

  async publish(checkpoint: SignedCheckpoint, keys: readonly string[], signal: AbortSignal): Promise<void> {
    const { origin, size, time, note } = checkpoint;
    const verifiers = `${keys.join('\n')}\n`;
    const message = {
      deliveryId: origin.replace(/^.*\//, ''),
      organizationId: 'audit',
      config: this.#config,
      content: {
        subject: `Audit checkpoint ${size} of ${origin}`,
        text:
          `The audit trail ${origin} had ${size} entries at ${time}.\n\n${note}\nVerifier keys:\n${verifiers}\n` +
          'Keep this where those who operate the system cannot change it. To check a bundle against it:\n' +
          `waybill audit verify FILE --offline --checkpoints checkpoint-${size}.txt\n`,
        attachments: [file(`checkpoint-${size}.txt`, note), file('public-keys.txt', verifiers)],
      },
      requestedAt: time,
    };
    const attemptKey = `${origin}/checkpoint-${size}`;
    const outcome = await withDeadline(ATTEMPT_MS, signal, (deadline) =>
      this.#adapter.send(message, { signal: deadline, attemptKey, now: new Date() }),
    );
    if (outcome.kind === 'rejected') throw new Error(`${outcome.code}: ${outcome.detail}`);
    // To send it to all of them again would not help those who refuse it.
    const { warning } = outcome;
    if (warning !== undefined) this.#log.warn({ place: this.name, warning }, 'not everybody took a checkpoint');
  }
}

class ChannelProblems extends Error {
  constructor(readonly problems: readonly FieldProblem[]) {
    super('the configuration of a channel is wrong');
  }
}

/** @throws ConfigError that names the settings */
export function checkpointChannels(
  settings: readonly CheckpointChannelSettings[],
  registry: ChannelRegistry,
  log: PublicationLog,
): CheckpointChannel[] {
  return settings.map((each, index) => {
    try {
      return new CheckpointChannel(each, registry, log);
    } catch (error) {
      if (!(error instanceof ChannelProblems)) throw error;
      throw new ConfigError(
        error.problems.map(({ path, problem }) => ({ path: `audit.publish.${index}.${path}`, problem })),
      );
    }
  });
}

const file = (filename: string, text: string) => ({
  filename,
  contentType: 'text/plain; charset=utf-8',
  base64: Buffer.from(text).toString('base64'),
});
