import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import type { Server } from 'node:https';
import { createSecureContext } from 'node:tls';

export interface CertificateFiles {
  /** PEM: the certificate and those between it and the root. */
  readonly certFile: string;
  /** PEM. */
  readonly keyFile: string;
}

export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** 1.3 is taken wherever the client has it; 1.1 and older never (RFC 8996). */
export const MIN_VERSION = 'TLSv1.2';
/** Files are looked at so often: events of the file system miss what Kubernetes does with links. */
const LOOK_MS = 2_000;

/** @throws Error, one line, when a file cannot be read or the two do not belong together */
export function readCertificate({ certFile, keyFile }: CertificateFiles): Certificate {
  const certificate = { cert: read(certFile, 'tls.certFile'), key: read(keyFile, 'tls.keyFile') };
  try {
    createSecureContext(certificate);
  } catch (error) {
    throw new Error(`tls.certFile and tls.keyFile: ${(error as Error).message}`);
  }
  return certificate;
}

function read(file: string, setting: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new Error(`${setting}: cannot read ${file} (${(error as NodeJS.ErrnoException).code})`);
  }
}

/**
 * Takes a renewed certificate into use for new connections. While the files are unusable, half written perhaps, the one
 * before stays.
 *
 * @returns what ends the watching
 */
export function followCertificate(
  server: Pick<Server, 'setSecureContext'>,
  files: CertificateFiles,
  tell: (problem: string | undefined) => void,
): () => void {
  const renew = () => {
    try {
      server.setSecureContext({ ...readCertificate(files), minVersion: MIN_VERSION });
      tell(undefined);
    } catch (error) {
      tell((error as Error).message);
    }
  };
  const paths = [files.certFile, files.keyFile];
  for (const path of paths) watchFile(path, { interval: LOOK_MS, persistent: false }, renew);
  return () => {
    for (const path of paths) unwatchFile(path, renew);
  };
}
