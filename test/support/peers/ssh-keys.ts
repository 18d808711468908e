import ssh2 from 'ssh2';

const { utils } = ssh2;

/**
 * A new Ed25519 key pair in OpenSSH's form. One in 256 that ssh2 makes has lost a leading zero of its public part and
 * is none that anybody can read (ssh2 1.17.0, lib/keygen.js): such a one is thrown away.
 */
export function sshKeys(locked: { readonly passphrase?: string } = {}): { private: string; public: string } {
  for (;;) {
    const keys = utils.generateKeyPairSync(
      'ed25519',
      locked.passphrase === undefined ? {} : { passphrase: locked.passphrase, cipher: 'aes256-ctr', rounds: 16 },
    );
    if (!(utils.parseKey(keys.private, locked.passphrase) instanceof Error)) return keys;
  }
}
