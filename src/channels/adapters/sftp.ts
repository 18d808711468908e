import { createPrivateKey } from 'node:crypto';
import type { SFTPWrapper } from 'ssh2';
import { z } from 'zod';
import type { ErrorCategory, FieldProblem } from '../../domain/vocabulary.js';
import { Adapter, type ConfigOf, type Declaration, inField, problemAt } from '../adapter.js';
import type { OutgoingMessage, SendOptions, SendOutcome } from '../channel.js';
import { checked } from '../config.js';
import { withDeadline } from '../deadline.js';
import { problemWithPath } from '../files/paths.js';
import { fileFields, filesOf, MAX_FILE_BYTES, type PlacedFiles } from '../files/placed-files.js';
import { HostKeyError, SftpConnections, type SftpServer } from '../files/sftp-connections.js';
import { upload, VerificationError } from '../files/sftp-upload.js';
import { outbound } from '../net/connection-config.js';
import type { Egress } from '../net/egress.js';
import { abortReason, presentable, type Rejected, rejected, unanswered } from '../outcome.js';

/** Files to an SFTP server (draft-ietf-secsh-filexfer-02, the version that everybody speaks). */
const DECLARATION: Declaration = {
  channel: 'SFTP',
  provider: 'sftp',
  configKey: 'sftp',
  idempotency: 'natural',
  acceptanceIsDelivery: true,
  inDoubt: 'resend',
  tested: 'Connects, checks the host key, logs in, and asks for the folder it is in.',
  limits: { maxBytes: MAX_FILE_BYTES, timeoutMs: 60_000 },
};

const HOST = /^[\p{L}\p{N}:.-]{1,253}$/u;
const MODE = /^0?[0-7]{3}$/;

/** What a server's status means (draft-ietf-secsh-filexfer-02, section 7). OpenSSH says 4 of a full disk and a quota. */
const STATUS: Readonly<Record<number, ErrorCategory>> = {
  2: 'CONFIGURATION', // SSH_FX_NO_SUCH_FILE: a folder is missing and none is to be made
  3: 'CONFIGURATION', // SSH_FX_PERMISSION_DENIED: the login is right, the path is not
  4: 'TEMPORARY', // SSH_FX_FAILURE
  5: 'PERMANENT', // SSH_FX_BAD_MESSAGE
  6: 'NETWORK', // SSH_FX_NO_CONNECTION
  7: 'NETWORK', // SSH_FX_CONNECTION_LOST
  8: 'CONFIGURATION', // SSH_FX_OP_UNSUPPORTED
};

const fingerprint = z
  .string()
  .regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'must be SHA256: and 43 characters, as ssh-keygen -l shows it');

const schema = (egress: Egress) =>
  z
    .strictObject({
      host: checked((host) =>
        HOST.test(host) ? egress.problemWithHost(host) : 'must be a host name or an address',
      ).describe('The server: a host name or an address.'),
      port: z.int().min(1).max(65_535).optional().describe('Its port.').meta({ default: 22 }),
      username: z.string().min(1).max(200).describe('Who logs in.'),
      password: z.string().min(1).max(1_000).optional().describe('Logs in with it.').meta({ secret: true }),
      privateKey: z
        .string()
        .max(20_000)
        .regex(/-----BEGIN [A-Z ]*PRIVATE KEY-----/, 'must be a private key, PEM or OpenSSH')
        .optional()
        .describe('Logs in with it: a private key, PEM or OpenSSH.')
        .meta({ secret: true }),
      passphrase: z.string().max(1_000).optional().describe('Opens the private key.').meta({ secret: true }),
      hostKeyFingerprint: z
        .union([fingerprint, z.array(fingerprint).min(1).max(10)])
        .describe(
          "Whose key is trusted, as `ssh-keygen -l` shows it (`SHA256:…`); a list while the server changes its key. There is no way around it: without it anybody could play the server's part.",
        ),
      ...fileFields,
      createDirectories: z.boolean().optional().describe('Make folders that are missing.').meta({ default: true }),
      fileMode: z
        .string()
        .regex(MODE, 'must be three octal digits')
        .optional()
        .describe('Permissions of files, octal.')
        .meta({ default: '640' }),
      directoryMode: z
        .string()
        .regex(MODE, 'must be three octal digits')
        .optional()
        .describe('Permissions of folders that are made, octal.')
        .meta({ default: '750' }),
      verify: z
        .enum(['digest', 'size', 'none'])
        .optional()
        .describe('How an upload is checked before the file gets its name: read back, by its size, or not at all.')
        .meta({ default: 'digest' }),
      ...outbound(egress, DECLARATION.limits.timeoutMs),
    })
    .superRefine(({ password, privateKey, passphrase }, context) => {
      if (password === undefined && privateKey === undefined)
        context.addIssue({ code: 'custom', path: ['password'], message: 'is required, or privateKey' });
      const problem = privateKey === undefined ? undefined : problemWithKey(privateKey, passphrase);
      if (problem) context.addIssue({ code: 'custom', path: [problem.path], message: problem.problem });
    });

type SftpConfig = ConfigOf<typeof schema>;

export class SftpAdapter extends Adapter<SftpConfig> {
  readonly errors = {
    source: 'https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02#section-7',
    categories: STATUS,
  };
  readonly #connections: SftpConnections;

  constructor(egress: Egress) {
    super(DECLARATION, schema(egress), inField('path', problemWithPath));
    this.#connections = new SftpConnections(egress);
  }

  protected probe(config: SftpConfig, signal: AbortSignal) {
    return withDeadline(timeoutOf(config), signal, async (deadline) => {
      try {
        await this.#connections.use(serverOf(config), deadline, findHome);
        return undefined;
      } catch (error) {
        const refusal = refused(deadline.aborted ? abortReason(deadline) : error, config, '', false);
        if (refusal.category === 'AUTHENTICATION') return problemAt('username', refusal);
        return problemAt(error instanceof HostKeyError ? KEY_FIELD : 'host', refusal);
      }
    });
  }

  protected async deliver(
    config: SftpConfig,
    message: OutgoingMessage,
    { attemptKey, signal }: SendOptions,
  ): Promise<SendOutcome> {
    if (signal.aborted) return unanswered(abortReason(signal), config.host, false);
    const files = await filesOf(message, config);
    if ('kind' in files) return files;
    return await withDeadline(timeoutOf(config), signal, (deadline) =>
      this.#deliver(config, message, files, attemptKey, deadline),
    );
  }

  async #deliver(
    config: SftpConfig,
    message: OutgoingMessage,
    files: PlacedFiles,
    attemptKey: string,
    deadline: AbortSignal,
  ): Promise<SendOutcome> {
    let isNamed = false;
    try {
      await this.#connections.use(serverOf(config), deadline, async (sftp) => {
        for (const [index, { path, source }] of files.list.entries()) {
          await upload(sftp, {
            path,
            source,
            mode: Number.parseInt(config.fileMode ?? '640', 8),
            folderMode:
              config.createDirectories === false ? undefined : Number.parseInt(config.directoryMode ?? '750', 8),
            verify: config.verify ?? 'digest',
            key: `${message.deliveryId}/${attemptKey}/${index}`,
            onNaming: () => {
              isNamed = true;
            },
          });
        }
      });
      return { kind: 'accepted', delivered: true, ...(files.list[0] && { providerMessageId: files.list[0].path }) };
    } catch (error) {
      if (files.refusal) return files.refusal;
      const words = presentable(wordsOf(error), message, secretsOf(config));
      return refused(deadline.aborted ? abortReason(deadline) : error, config, words, isNamed);
    }
  }

  /** Closes all connections; what is being sent is finished first. */
  close(): void {
    this.#connections.close();
  }
}

const KEY_FIELD = 'hostKeyFingerprint';

function serverOf({ hostKeyFingerprint, ...server }: SftpConfig): SftpServer {
  const hostKeyFingerprints = typeof hostKeyFingerprint === 'string' ? [hostKeyFingerprint] : hostKeyFingerprint;
  return { ...server, hostKeyFingerprints };
}

const findHome = (sftp: SFTPWrapper): Promise<void> =>
  new Promise((resolve, reject) => sftp.realpath('.', (error) => (error ? reject(error) : resolve())));

const timeoutOf = ({ timeout }: SftpConfig): number => timeout ?? DECLARATION.limits.timeoutMs;

const secretsOf = ({ password, privateKey, passphrase }: SftpConfig): string[] =>
  [password, privateKey, passphrase].flatMap((secret) => secret ?? []);

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : '');

/** @param words the server's, fit to be kept */
function refused(error: unknown, { host }: SftpConfig, words: string, isNamed: boolean): Rejected {
  if (error instanceof HostKeyError) {
    return rejected('CONFIGURATION', error.code, `${host} is not who it was: ${error.message}`);
  }
  if (error instanceof VerificationError) {
    return rejected('TEMPORARY', error.code, `the upload to ${host} failed its check: ${error.message}`);
  }
  // First, as its `code` is a number too, of another table.
  if (error instanceof DOMException) return unanswered(error, host, isNamed);
  const { code, level } = error as { readonly code?: unknown; readonly level?: string };
  if (level === 'client-authentication') {
    return rejected('AUTHENTICATION', 'SSH_AUTH', `${host} does not let this user in`);
  }
  if (error instanceof Error && /^Cannot parse privateKey|passphrase/i.test(error.message)) {
    return rejected('CONFIGURATION', 'PRIVATE_KEY', 'the private key cannot be read with this passphrase');
  }
  if (level === 'client-timeout') return unanswered({ name: 'TimeoutError' }, host, false);
  if (typeof code === 'number' && code in STATUS && STATUS[code] !== 'NETWORK') {
    return rejected(STATUS[code] as ErrorCategory, `SFTP_${code}`, `${host} answered ${code}${words && `: ${words}`}`);
  }
  return unanswered(typeof code === 'number' ? { code: 'CONNECTION_CLOSED' } : error, host, isNamed);
}

/** Node reads PEM and PKCS#8; a key in OpenSSH's own form is read by the client when it logs in. */
function problemWithKey(key: string, passphrase: string | undefined): FieldProblem | undefined {
  if (key.includes('BEGIN OPENSSH PRIVATE KEY')) return undefined;
  try {
    createPrivateKey({ key, ...(passphrase !== undefined && { passphrase }) });
    return undefined;
  } catch (error) {
    const needsPassphrase = /passphrase|decrypt/i.test((error as Error).message);
    return needsPassphrase
      ? { path: 'passphrase', problem: 'does not open the private key' }
      : { path: 'privateKey', problem: 'cannot be read' };
  }
}
