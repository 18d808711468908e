import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { startHttpPeer } from './http-peer.js';

/**
 * AWS KMS as far as Waybill uses it, as its API reference has it: GenerateDataKey and Decrypt in the JSON 1.1 protocol. It
 * really encrypts, under a master key of its own, bound to the encryption context.
 */
export interface KmsRecorder {
  /** To be given as `endpoint`. */
  readonly url: string;
  /** What was asked, in order. */
  readonly actions: string[];
  /** Answers with this error from now on; undefined lets requests through. */
  failure: { readonly status: number; readonly type: string; readonly message: string } | undefined;
  close(): Promise<void>;
}

interface Asked {
  readonly KeyId: string;
  readonly CiphertextBlob: string;
  readonly EncryptionContext?: Record<string, string>;
}

export const KMS_KEY = 'arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab';

export async function startKmsRecorder(): Promise<KmsRecorder> {
  const master = randomBytes(32);
  const actions: string[] = [];
  const answer = (status: number, body: object) => ({
    status,
    headers: { 'content-type': 'application/x-amz-json-1.1' },
    body: JSON.stringify(body),
  });
  const peer = await startHttpPeer(({ headers, raw }) => {
    const action = String(headers['x-amz-target']).replace('TrentService.', '');
    actions.push(action);
    if (recorder.failure) {
      const { status, type, message } = recorder.failure;
      return answer(status, { __type: type, message });
    }
    const asked = JSON.parse(raw) as Asked;
    const context = Buffer.from(JSON.stringify(Object.entries(asked.EncryptionContext ?? {}).sort()));
    if (action === 'GenerateDataKey') {
      const plaintext = randomBytes(32);
      const nonce = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', master, nonce).setAAD(context);
      const blob = Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
      const key = { KeyId: asked.KeyId, Plaintext: plaintext.toString('base64') };
      return answer(200, { ...key, CiphertextBlob: blob.toString('base64') });
    }
    const blob = Buffer.from(asked.CiphertextBlob, 'base64');
    try {
      const decipher = createDecipheriv('aes-256-gcm', master, blob.subarray(0, 12)).setAAD(context);
      decipher.setAuthTag(blob.subarray(-16));
      const plaintext = Buffer.concat([decipher.update(blob.subarray(12, -16)), decipher.final()]);
      return answer(200, { KeyId: asked.KeyId, Plaintext: plaintext.toString('base64') });
    } catch {
      return answer(400, { __type: 'InvalidCiphertextException' });
    }
  });
  const recorder: KmsRecorder = { url: peer.origin, actions, failure: undefined, close: () => peer.close() };
  return recorder;
}
