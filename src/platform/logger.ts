import type { LoggerService } from '@nestjs/common';
import { type DestinationStream, destination, type Level, type Logger, pino, stdSerializers } from 'pino';
import type { Config } from './config.js';

/**
 * The log: one JSON object a line for machines, one short line for a person at a terminal.
 *
 * Secrets are masked by the name of their field at any depth, and inside texts where they are recognizable (passwords
 * in URLs, bearer tokens). Message content and addresses are never logged in the first place.
 */
export interface LoggerOptions {
  readonly level: Config['logLevel'];
  /** Default: whether stdout is a terminal. */
  readonly forPeople?: boolean;
  /** Default: stdout. */
  readonly stream?: DestinationStream;
}

export function createLogger({ level, forPeople = process.stdout.isTTY === true, stream }: LoggerOptions): Logger {
  // Written at once: what a process said just before it died is what one wants to read.
  const out = stream ?? destination({ fd: 1, sync: true });
  const logger = pino(
    {
      level,
      base: null,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => masked(fields) as Record<string, unknown>,
      },
      // Errors have been made plain by then; pino's own serializer would take them for errors of type "Object".
      serializers: { err: (plain) => plain },
      hooks: {
        // biome-ignore lint/suspicious/noExplicitAny: pino's own type for the arguments of a log method
        logMethod(args: any[], method) {
          method.apply(this, args.map((arg) => (typeof arg === 'string' ? maskedText(arg) : arg)) as [string]);
        },
      },
    },
    forPeople ? { write: (line: string) => out.write(lineForPeople(line)) } : out,
  );
  // pino gives the fields of a child logger to no formatter.
  const { child } = logger;
  logger.child = function (this: Logger, bindings, options) {
    return child.call(this, masked(bindings) as Record<string, unknown>, options);
  } as typeof child;
  return logger;
}

/** Lets Nest write to the same log. The context Nest gives (a class name) becomes the field `context`. */
export class NestLogger implements LoggerService {
  constructor(private readonly logger: Logger) {}

  log(message: unknown, ...rest: unknown[]): void {
    this.write('info', message, rest);
  }

  error(message: unknown, ...rest: unknown[]): void {
    this.write('error', message, rest);
  }

  warn(message: unknown, ...rest: unknown[]): void {
    this.write('warn', message, rest);
  }

  debug(message: unknown, ...rest: unknown[]): void {
    this.write('debug', message, rest);
  }

  verbose(message: unknown, ...rest: unknown[]): void {
    this.write('trace', message, rest);
  }

  fatal(message: unknown, ...rest: unknown[]): void {
    this.write('fatal', message, rest);
  }

  /** Nest appends the context as the last argument, and a stack before it for errors. */
  private write(level: Level, message: unknown, rest: unknown[]): void {
    const context = typeof rest.at(-1) === 'string' ? rest.at(-1) : undefined;
    const stack = rest.slice(0, -1).find((value) => typeof value === 'string' && value.includes('\n    at '));
    const fields = { ...(context !== undefined && { context }), ...(stack !== undefined && { stack }) };
    if (message instanceof Error) this.logger[level]({ ...fields, err: message }, message.message);
    else if (typeof message === 'object') this.logger[level]({ ...fields, ...message });
    else this.logger[level](fields, String(message));
  }
}

const MASK = '[secret]';
const SECRET_NAME =
  /^(auth|authorization|proxyauthorization|cookie|setcookie|credentials)$|(password|passphrase|secret|token|apikey|adminkey|privatekey)$/;
const MAX_DEPTH = 8;

function masked(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return maskedText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return masked(stdSerializers.err(value), depth + 1);
  if (depth >= MAX_DEPTH) return '[too deep]';
  if (Array.isArray(value)) return value.map((item) => masked(item, depth + 1));
  if ('toJSON' in value || Buffer.isBuffer(value)) return value;
  if (!isData(value)) return `[${value.constructor.name}]`;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, isSecret(name, inner) ? MASK : masked(inner, depth + 1)]),
  );
}

/** Data, and no object with a life of its own: pg's errors have the whole client, with the key that cancels its work. */
function isData(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  // pino has given errors a prototype of its own.
  return prototype === Object.prototype || prototype === null || 'stack' in value;
}

function isSecret(name: string, value: unknown): boolean {
  return value !== undefined && value !== null && SECRET_NAME.test(name.toLowerCase().replaceAll(/[-_]/g, ''));
}

function maskedText(text: string): string {
  if (!text.includes('://') && !/\b(bearer|basic) /i.test(text)) return text;
  return text
    .replaceAll(/(\w:\/\/[^\s/:@]*:)[^\s/@]+@/g, `$1${MASK}@`)
    .replaceAll(/\b(bearer|basic) +[\w.~+/=-]{8,}/gi, `$1 ${MASK}`);
}

/** `12:03:04.567 WARN  message field=value`, with an error's stack below. */
function lineForPeople(line: string): string {
  const { level, time, msg = '', err, stack = err?.stack, ...fields } = JSON.parse(line);
  const rest = Object.entries(fields).map(
    ([name, value]) => ` ${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const cause = err && err.message !== msg && !stack ? ` (${err.message})` : '';
  return `${time.slice(11, 23)} ${level.toUpperCase().padEnd(5)} ${msg}${cause}${rest.join('')}\n${stack ? `${stack}\n` : ''}`;
}
