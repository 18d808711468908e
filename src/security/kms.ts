import { DecryptCommand, GenerateDataKeyCommand, KMSClient } from '@aws-sdk/client-kms';

export interface KmsSettings {
  /** Id, ARN or alias of a symmetric encryption key. */
  readonly keyId: string;
  /** Default: as the AWS SDK finds it (AWS_REGION, the shared configuration, …); so are the credentials. */
  readonly region?: string | undefined;
  /** Default: the region's own. */
  readonly endpoint?: string | undefined;
}

/** A key-encryption key, and the form of it that only KMS can open. */
export interface GeneratedKey {
  readonly key: Buffer;
  readonly wrapped: Buffer;
}

const CONNECT_MS = 5_000;
const ANSWER_MS = 10_000;

/** Bound to every key: KMS opens none without it, and its log (CloudTrail) shows what the call was for. */
const CONTEXT = { application: 'waybill', purpose: 'key-encryption-key' };

/**
 * AWS KMS as the keeper of key-encryption keys. It is called once for each version at start, and once for a rotation,
 * never for a person's key: those are wrapped here, so that KMS's rate limits and outages stop nothing.
 *
 * https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html
 */
export class Kms {
  readonly #client: KMSClient;
  readonly #keyId: string;

  /** @param answerWithinMs how long one try may take, of three. Default 10,000 */
  constructor({ keyId, region, endpoint }: KmsSettings, answerWithinMs = ANSWER_MS) {
    this.#keyId = keyId;
    this.#client = new KMSClient({
      ...(region && { region }),
      ...(endpoint && { endpoint }),
      maxAttempts: 3,
      requestHandler: {
        connectionTimeout: CONNECT_MS,
        requestTimeout: answerWithinMs,
        // Else it is only warned of.
        throwOnRequestTimeout: true,
        socketTimeout: answerWithinMs,
      },
    });
  }

  /** @throws Error, one line, naming what KMS has said */
  async generate(): Promise<GeneratedKey> {
    const command = new GenerateDataKeyCommand({ KeyId: this.#keyId, KeySpec: 'AES_256', EncryptionContext: CONTEXT });
    const { Plaintext, CiphertextBlob } = await this.#client.send(command).catch(explain);
    if (!Plaintext || !CiphertextBlob) throw new Error('AWS KMS: it answered without a key');
    return { key: Buffer.from(Plaintext), wrapped: Buffer.from(CiphertextBlob) };
  }

  /** @throws Error, one line, naming what KMS has said */
  async open(wrapped: Buffer): Promise<Buffer> {
    const command = new DecryptCommand({ KeyId: this.#keyId, CiphertextBlob: wrapped, EncryptionContext: CONTEXT });
    const { Plaintext } = await this.#client.send(command).catch(explain);
    if (!Plaintext) throw new Error('AWS KMS: it answered without a key');
    return Buffer.from(Plaintext);
  }

  close(): void {
    this.#client.destroy();
  }
}

function explain(error: Error): never {
  throw new Error(`AWS KMS: ${error.name}: ${error.message}`, { cause: error });
}
