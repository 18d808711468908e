import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { z } from 'zod';
import { checked } from '../config.js';
import type { Egress } from './egress.js';
import type { ProxyServer } from './ways-out.js';

/** How a configuration says that a connection is not like all others: a client certificate, own authorities, a proxy. */

/** What every configuration of a provider that is called over a network may say of how it is called. */
export interface Outbound {
  /** Bound on one attempt, in milliseconds. */
  readonly timeout?: number;
  readonly proxy?: ProxyServer;
}

/** The fields of Outbound, for the schema of an adapter to spread into its own. `timeoutMs` is what its description says. */
export const outbound = (egress: Egress, timeoutMs: number) => ({
  timeout: z
    .int()
    .min(1)
    .max(120_000)
    .optional()
    .describe('Bound on one attempt, in milliseconds.')
    .meta({ default: timeoutMs }),
  proxy: proxyServer(egress)
    .optional()
    .describe(
      'HTTP proxy that all connections go through, by CONNECT. It is told addresses, not names, so names must be known here.',
    ),
});

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

const pem = checked((text) => {
  const found = text.length <= 100_000 ? text.match(CERTIFICATE) : null;
  return found?.every(certificateOf) ? undefined : 'must be certificates, PEM, at most 100000 characters';
});

export const clientTls = z
  .strictObject({
    cert: pem
      .optional()
      .describe('Certificate that Waybill shows (mutual TLS), PEM, with those between it and its root after it.')
      .meta({ secret: true }),
    key: z.string().max(20_000).optional().describe('Private key of the certificate, PEM.').meta({ secret: true }),
    passphrase: z
      .string()
      .min(1)
      .max(1_000)
      .optional()
      .describe('Opens the private key, where it is encrypted.')
      .meta({ secret: true }),
    ca: pem.optional().describe('Authorities that may vouch for the server, PEM. With it, the public ones may not.'),
  })
  .superRefine(({ cert, key, passphrase }, context) => {
    const problem = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if ((cert === undefined) !== (key === undefined))
      return problem(cert === undefined ? 'cert' : 'key', 'is required: certificate and key belong together');
    if (cert === undefined || key === undefined) return;
    const opened = keyOf(key, passphrase);
    if (!opened) return problem('key', 'must be a private key, PEM, that the passphrase opens');
    const leaf = certificateOf(cert.match(CERTIFICATE)?.[0] ?? '');
    if (leaf && !leaf.checkPrivateKey(opened)) problem('key', 'is not the key of the certificate');
  });

const proxyServer = (egress: Egress) =>
  z
    .strictObject({
      url: checked((url) => egress.problemWithUrl(url)).describe('The proxy, http or https.'),
      username: z
        .string()
        .regex(/^[^:\p{Cc}]{1,200}$/u, 'must have 1 to 200 characters, no colon among them')
        .optional()
        .describe('Who logs in.'),
      password: z.string().min(1).max(1_000).optional().describe('With which password.').meta({ secret: true }),
    })
    .superRefine(({ username, password }, context) => {
      if (password !== undefined && username === undefined)
        context.addIssue({ code: 'custom', path: ['username'], message: 'is required with a password' });
    });

function certificateOf(text: string): X509Certificate | undefined {
  try {
    return new X509Certificate(text);
  } catch {
    return undefined;
  }
}

function keyOf(key: string, passphrase: string | undefined): KeyObject | undefined {
  try {
    return createPrivateKey({ key, ...(passphrase !== undefined && { passphrase }) });
  } catch {
    return undefined;
  }
}
