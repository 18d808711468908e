/**
 * The EventStoreDB test server, alone:
 *
 *     npm run eventstore:test-server -- --path=DIR --port=N --host=127.0.0.1 --public=localhost [--cert=PEM --key=PEM]
 *
 * Prints `READY <port>` once it listens, and ends on SIGTERM, SIGINT, or when the process that forked it is gone.
 * `--max-append-size=BYTES` is what one append may have, 64 MiB by default.
 *
 * It does as an EventStoreDB 24.6 does, over the embedded log, with these exceptions:
 * - positions count events from 1, not bytes; the commit and the prepare position are the same, as in the real server;
 * - an event may have 32 MiB as it lies in the log, which doubles quotes and keeps what is not text in base64;
 * - nothing is scavenged: what was deleted or truncated stays in $all;
 * - the regular expressions of filters are JavaScript's;
 * - a live subscription is told that it fell behind when 256 events are waiting for it;
 * - without TLS everybody may do everything, as with `--insecure`, but a wrong password is still refused.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { startServer } from './server.js';

/** Room for an attachment of 32 MiB in base64, and then some; the real server's default is 1 MiB. */
const DEFAULT_MAX_APPEND_SIZE = 64 * 1024 * 1024;

function options() {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    options: { path: text, port: text, host: text, public: text, cert: text, key: text, 'max-append-size': text },
  });
  const { path, host = '127.0.0.1', cert, key } = values;
  if (!path) throw new Error('--path=DIR is needed: the folder of the log');
  if ((cert === undefined) !== (key === undefined)) throw new Error('--cert and --key go together');
  return {
    ...{ path, host, publicHost: values.public ?? host },
    port: whole('port', values.port ?? '2113', 0, 65_535),
    maxAppendSize: whole('max-append-size', values['max-append-size'] ?? String(DEFAULT_MAX_APPEND_SIZE), 1, 2 ** 30),
    ...(cert !== undefined && key !== undefined && { tls: { cert: readFileSync(cert), key: readFileSync(key) } }),
  };
}

function whole(name: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new Error(`--${name} must be a whole number from ${least} to ${most}, not ${text}`);
}

// What goes wrong is said by this program, once.
setLogVerbosity(logVerbosity.NONE);
try {
  const server = await startServer(options());
  let isStopping = false;
  const stop = async () => {
    if (isStopping) return;
    isStopping = true;
    await server.stop();
    process.exit(0);
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop);
  process.on('disconnect', stop);
  process.stdout.write(`READY ${server.port}\n`);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exit(1);
}
