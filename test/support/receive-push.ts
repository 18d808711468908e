import { createDecipheriv, createECDH, createHmac, type ECDH, randomBytes } from 'node:crypto';

/** What a browser does with a message: RFC 8291 on top of RFC 8188, written from the RFCs and node:crypto alone. */
export class Browser {
  readonly #curve: ECDH = createECDH('prime256v1');
  readonly #auth: Buffer;

  /** Default: a new subscription. */
  constructor(privateKey?: string, auth?: string) {
    if (privateKey === undefined) this.#curve.generateKeys();
    else this.#curve.setPrivateKey(Buffer.from(privateKey, 'base64url'));
    this.#auth = auth === undefined ? randomBytes(16) : Buffer.from(auth, 'base64url');
  }

  get keys() {
    return { p256dh: this.#curve.getPublicKey('base64url'), auth: this.#auth.toString('base64url') };
  }

  /** @param body one record, with the header of RFC 8188, 2.1 */
  decrypt(body: Buffer): string {
    const salt = body.subarray(0, 16);
    const length = body.readUInt8(20);
    const sender = body.subarray(21, 21 + length);
    const hmac = (key: Buffer, ...parts: (Buffer | string)[]) => {
      const made = createHmac('sha256', key);
      for (const part of parts) made.update(part);
      return made.digest();
    };
    const one = Buffer.from([1]);
    const prkKey = hmac(this.#auth, this.#curve.computeSecret(sender));
    const ikm = hmac(prkKey, 'WebPush: info\0', this.#curve.getPublicKey(), sender, one);
    const prk = hmac(salt, ikm);
    const key = hmac(prk, 'Content-Encoding: aes128gcm\0', one).subarray(0, 16);
    const nonce = hmac(prk, 'Content-Encoding: nonce\0', one).subarray(0, 12);
    const decipher = createDecipheriv('aes-128-gcm', key, nonce);
    decipher.setAuthTag(body.subarray(-16));
    const padded = Buffer.concat([decipher.update(body.subarray(21 + length, -16)), decipher.final()]);
    const end = padded.lastIndexOf(2);
    if (end < 0 || padded.subarray(end + 1).some((byte) => byte !== 0)) throw new Error('the padding is wrong');
    return padded.subarray(0, end).toString('utf8');
  }
}
