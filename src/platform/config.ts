import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { CHANNELS, type FieldProblem } from '../domain/vocabulary.js';
import { parseConfigFile } from './config-file.js';

/**
 * The settings of one instance: defaults, then the YAML file named by `WAYBILL_CONFIG`, then the environment, which
 * wins. Everything is checked once, here; whoever holds a `Config` need not check again.
 */

const MIB = 1024 * 1024;

/** A whole number, or its digits as text: that is how the environment gives it. */
const wholeNumber = (min: number, max: number) =>
  z
    .preprocess((value) => (typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value), z.unknown())
    .refine((value) => Number.isInteger(value) && (value as number) >= min && (value as number) <= max, {
      error: ({ input }) => `must be a whole number from ${min} to ${max}, not ${JSON.stringify(input)}`,
    })
    .transform((value) => value as number);

/** A number that need not be whole, or its digits as text. */
const amount = (min: number, max: number) =>
  z
    .preprocess(
      (value) => (typeof value === 'string' && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value),
      z.unknown(),
    )
    .refine((value) => typeof value === 'number' && value >= min && value <= max, {
      error: ({ input }) => `must be a number from ${min} to ${max}, not ${JSON.stringify(input)}`,
    })
    .transform((value) => value as number);

/**
 * An address range in CIDR notation. Short and octal IPv4 forms (`10/8`, `012.0.0.0/8`) are refused although the parser
 * knows them: these ranges open a way into private networks, and two readers must not see two different ones.
 */
const cidr = z
  .string()
  .refine(
    (text) => ipaddr.IPv4.isValidCIDRFourPartDecimal(text) || (text.includes(':') && ipaddr.IPv6.isValidCIDR(text)),
    {
      error: ({ input }) =>
        `${JSON.stringify(input)} is not an address range such as 10.1.0.0/16, 10.1.2.3/32 or fd00::/8`,
    },
  );

/** The error texts of URLs never repeat the value: it may hold a password. */
const url = (example: string, ...schemes: string[]) =>
  z
    .string()
    .refine((text) => schemes.some((scheme) => text.startsWith(`${scheme}://`) && text.length > scheme.length + 3), {
      error: `must be a URL such as ${example}`,
    });

const provider = z.strictObject({
  name: z.string().regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, dots, dashes or underscores'),
  channel: z.enum(CHANNELS),
  /** Checked by the adapter it belongs to, which alone knows its fields. */
  config: z.record(z.string(), z.unknown()).default({}),
  /** Default 1: providers of a channel with a lower number are used first. */
  priority: wholeNumber(0, 1_000).default(1),
  /** Default 1: its share among providers that are alike in priority, region and cost. */
  weight: amount(0, 1_000).default(1),
  /** Default 0. Of one message, in a unit of your choice: the cheaper first. */
  cost: amount(0, 1_000_000).default(0),
  /** Default none. Among providers of one priority, those of the instance's region are used first. */
  region: z.string().min(1, 'must not be empty').optional(),
  /** Default none. Over all instances together. */
  limits: z
    .strictObject({
      /** Calls at once. */
      concurrency: wholeNumber(1, 10_000).optional(),
      /** Calls begun per second. */
      perSecond: amount(0.01, 100_000).optional(),
      /** Default: those of one second. Calls that may begin at once after a pause. */
      burst: wholeNumber(1, 100_000).optional(),
    })
    .optional(),
});

const limits = z.strictObject({
  /** Default 25 MiB. Whole HTTP request; a base64 attachment takes a third more than its bytes. */
  maxBodyBytes: wholeNumber(1024, 1024 * MIB).default(25 * MIB),
  /** Default 10 MiB. All attachments of one delivery together, decoded. */
  maxAttachmentBytes: wholeNumber(0, 20 * MIB).default(10 * MIB),
  /** Default 12 levels of nested fields in a GraphQL query. */
  maxQueryDepth: wholeNumber(1, 100).default(12),
  /** Default 5,000 points: one for each field, times the page size of the lists around it. */
  maxQueryCost: wholeNumber(1, 10_000_000).default(5_000),
  /** Default 50 mutations in one request. */
  maxMutations: wholeNumber(1, 10_000).default(50),
  /** Default 60,000 requests a minute by one credential to one instance; administrators of the installation are not counted. */
  requestsPerMinute: wholeNumber(1, 100_000_000).default(60_000),
});

/** When calls to a destination or provider that fails are stopped, and how it is tried out (seed 3's defaults). */
const breaker = z.strictObject({
  /** Default 10 failures in a row. */
  failureThreshold: wholeNumber(1, 10_000).default(10),
  /** Default 300,000 ms without a call. */
  recoveryTimeoutMs: wholeNumber(10, 86_400_000).default(300_000),
  /** Default 3 calls that must succeed. */
  halfOpenMaxCalls: wholeNumber(1, 1_000).default(3),
});

/** When a destination that fails is disabled: both must be reached. */
const disableAfter = z.strictObject({
  /** Default 50 failures in a row … */
  failures: wholeNumber(1, 1_000_000).default(50),
  /** … over 24 hours by default. */
  hours: amount(0, 8_760).default(24),
});

const engine = z.strictObject({
  /** Default 128 attempts in flight at once. */
  concurrency: wholeNumber(1, 10_000).default(128),
  /** Default 8 more for messages whose attachments make them large … */
  largeConcurrency: wholeNumber(1, 1_000).default(8),
  /** … which is from 256 KiB on by default, as sent. */
  largeBytes: wholeNumber(1, 1024 * MIB).default(256 * 1024),
  /** Default 32 calls at once to a destination or host that has no limit of its own. */
  destinationConcurrency: wholeNumber(1, 10_000).default(32),
  breaker: breaker.prefault({}),
  disableAfter: disableAfter.prefault({}),
  /**
   * Default 100,000 deliveries under way, 7 KB each, and three quarters of them of one organization; beyond it requests
   * are answered with RATE_LIMITED.
   */
  maxUnderWay: wholeNumber(1, 100_000_000).default(100_000),
  /** Default 1,000 ms between two write-behind checkpoints: how much is folded again after a crash. */
  checkpointIntervalMs: wholeNumber(10, 60_000).default(1_000),
  /** Default 8,000 ms for attempts in flight at SIGTERM; the rest of the 10 s is for closing the stores. */
  drainTimeoutMs: wholeNumber(0, 600_000).default(8_000),
});

const projections = z.strictObject({
  /** Default 2,000 events, or … */
  batchEvents: wholeNumber(1, 100_000).default(2_000),
  /** … default 25 ms, whichever comes first, make one transaction; under load up to four times the one and sixteen times the other. */
  batchDelayMs: wholeNumber(0, 10_000).default(25),
  /** Default 2,000 ms that a query waits for the read model to show the caller's own last command. */
  readYourWritesTimeoutMs: wholeNumber(0, 60_000).default(2_000),
  /** Default 24 hours for which the version that a rebuild has replaced can be gone back to. */
  keepReplacedHours: amount(0, 8_760).default(24),
});

/** Plain http only on this machine: whoever can change the answers on their way would be everybody. */
const issuerUrl = url('https://login.example.com/realms/corp', 'https', 'http').refine(
  (text) => !URL.canParse(text) || new URL(text).protocol === 'https:' || isLoopback(new URL(text).hostname),
  { error: 'must be https, except on this machine' },
);
const isLoopback = (host: string): boolean => host === 'localhost' || host === '[::1]' || /^127\./.test(host);

const claim = z.string().min(1, 'must not be empty');
const roleNames = z.array(z.string().min(1, 'must not be empty'));

/** An OpenID provider whose tokens are accepted. */
const oidc = z.strictObject({
  /** Begins the actor of its people in the log: `<name>:<subject>`. */
  name: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,31}$/, 'must be 1 to 32 small letters, digits and dashes, a letter first')
    .refine((name) => name !== 'key', { error: 'is taken by API keys' }),
  /** As it stands in its tokens' `iss`. */
  issuer: issuerUrl,
  /** One of them must stand in a token's `aud`. */
  audience: z.union([
    z
      .string()
      .min(1)
      .transform((one) => [one]),
    z.array(z.string().min(1)).min(1),
  ]),
  /** Default: as its discovery document says. */
  jwksUri: issuerUrl.optional(),
  /** Default RS256, PS256, ES256, EdDSA. Only signatures by private keys can be named. */
  algorithms: z
    .array(z.enum(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA']))
    .min(1)
    .default(['RS256', 'PS256', 'ES256', 'EdDSA']),
  /** Default 30 s between its clock and ours. */
  leewaySeconds: wholeNumber(0, 300).default(30),
  /** Which claims say who somebody is and where they have which roles; `a.b` is b within a. */
  claims: z
    .strictObject({
      /** Default `sub`. It must be opaque: it stands in the log for ever. */
      actor: claim.default('sub'),
      /** Default `organizations`: a list, or an object of lists of roles by organization. */
      organizations: claim.default('organizations'),
      /** Default `roles`: a list. */
      roles: claim.default('roles'),
    })
    .prefault({}),
  /** Default: as the tokens say. The one organization of all its people. */
  organization: z.string().min(1, 'must not be empty').optional(),
  /** Default: its role names are ours. Else our roles by its roles; others count for nothing. */
  roles: z.record(z.string(), roleNames).default({}),
  /** Default none. Its roles that make an administrator of the installation. */
  installationAdmins: roleNames.default([]),
});

const auth = z.strictObject({
  /** Default none. */
  oidc: z
    .array(oidc)
    .superRefine((all, context) => {
      for (const field of ['name', 'issuer'] as const)
        for (const [index, each] of all.entries())
          if (all.findIndex((other) => other[field] === each[field]) < index)
            context.addIssue({ code: 'custom', path: [index, field], message: `"${each[field]}" is taken` });
    })
    .default([]),
  /** Default 20 wrong credentials from one address … */
  maxFailures: wholeNumber(1, 100_000).default(20),
  /** … within 60 s; then none of its new ones are looked at for as long. */
  failureWindowSeconds: wholeNumber(1, 86_400).default(60),
});

/** Somewhere outside where checkpoints are published. */
const publication = z.strictObject({
  name: z.string().regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, dots, dashes or underscores'),
  /** `STORAGE` for a bucket, `EMAIL` for an address, or any other. */
  channel: z.enum(CHANNELS),
  /** As that of a destination of the channel; checked by its adapter. */
  config: z.record(z.string(), z.unknown()),
  /** Default 3,600 s at least from one to the next, of which the newest is published; the first goes at once. */
  everySeconds: wholeNumber(0, 31_536_000).default(3_600),
});

/** The audit trail's checkpoints: signed statements of where it stood. */
const audit = z.strictObject({
  /** Default: `audit` in the data directory. Where checkpoints and the keys to check them with are published as files. */
  folder: z.string().min(1, 'must not be empty').optional(),
  /** Default: `audit-key.pem` in the data directory. Ed25519 in PEM; made when it is missing. Instances may share it. */
  keyFile: z.string().min(1, 'must not be empty').optional(),
  /** Default: after 10,000 new entries, or … */
  checkpointEntries: wholeNumber(1, 1_000_000_000).default(10_000),
  /** … default 60 s after the last one if there is anything new. */
  checkpointSeconds: wholeNumber(1, 86_400).default(60),
  /** Default none beside the folder. */
  publish: z.array(publication).max(32).default([]),
});

/** Bucket, prefix, region, endpoint; credentials come from where the AWS SDK finds them, never from here. */
const S3 =
  /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[\w./-]*)?(\?(region=[a-z0-9-]+|endpoint=https?:\/\/[\w.:[\]-]+)(&(region=[a-z0-9-]+|endpoint=https?:\/\/[\w.:[\]-]+))?)?$/;

const schema = z.strictObject({
  /** Default 3000. 0 takes any free port. */
  port: wholeNumber(0, 65_535).default(3_000),
  /** Default 127.0.0.1: only this machine. */
  host: z
    .string()
    .regex(/^[\w.:%-]+$/, 'must be an IP address or a host name')
    .default('127.0.0.1'),
  /** Default `.waybill`. A relative path starts at the current folder, also in the YAML file. */
  dataDir: z.string().min(1, 'must not be empty').default('.waybill'),
  /** Default `files` in the data directory: where destinations of local storage put their files. */
  localStorageRoot: z.string().min(1, 'must not be empty').optional(),
  /** Default none: plain HTTP. PEM files; renewed ones are taken into use without a restart. */
  tls: z.strictObject({ certFile: z.string().min(1), keyFile: z.string().min(1) }).optional(),
  /** Default none. Reverse proxies whose X-Forwarded-For is believed. */
  trustedProxies: z.array(cidr).default([]),
  /** Default none. Origins whose pages may call the API from a browser, such as https://console.example.com. */
  corsOrigins: z
    .array(z.string().regex(/^https?:\/\/[\w.:[\]-]+$/, 'must be an origin such as https://console.example.com'))
    .default([]),
  /** Default administrators: who may ask for the API's schema. */
  introspection: z.enum(['nobody', 'administrators', 'everyone']).default('administrators'),
  /** Default: the embedded PostgreSQL. */
  databaseUrl: url('postgresql://user:password@host:5432/waybill', 'postgres', 'postgresql').optional(),
  /** Default: the embedded log. */
  eventStoreUrl: url(
    'esdb://host:2113?tls=true',
    ...['esdb', 'esdb+discover', 'kurrentdb', 'kurrentdb+discover', 'kdb', 'kdb+discover'],
  ).optional(),
  /** Default: made at first start and kept in the data directory. */
  adminKey: z.string().min(32, 'must have 32 or more characters').optional(),
  /** Default `keys.json` in the data directory: the local key ring. Instances that share a database share it too. */
  keyRingFile: z.string().min(1, 'must not be empty').optional(),
  /** Default none. The key ring itself, as it is in that file. */
  keyRing: z.string().min(1, 'must not be empty').optional(),
  /** Default none. AWS KMS instead of a key ring. */
  kms: z
    .strictObject({
      /** Id, ARN or alias of a symmetric encryption key. */
      keyId: z.string().min(1, 'must not be empty'),
      /** Default: as the AWS SDK finds it, as it finds credentials. */
      region: z.string().min(1, 'must not be empty').optional(),
      endpoint: url('https://kms.eu-central-1.amazonaws.com', 'https', 'http').optional(),
    })
    .optional(),
  /** Default false. True starts although the keys of personal data were lost: what was sealed with them stays sealed. */
  acceptLostKeys: z.stringbool({ error: 'must be true or false' }).or(z.boolean()).default(false),
  /**
   * Default `content` in the data directory: where large contents are kept, a folder or `s3://bucket/prefix?region=…`, with
   * `&endpoint=…` for another server that speaks S3. Instances that share an event store share it too.
   */
  content: z
    .string()
    .min(1, 'must not be empty')
    .refine((text) => !text.includes('://') || S3.test(text), {
      error: 'must be a folder or a URL such as s3://bucket/prefix?region=eu-central-1',
    })
    .optional(),
  /** Default 24 hours after which what no event names counts as left behind. */
  contentGraceHours: amount(1, 8_760).default(24),
  /** Default false. True starts although the contents that earlier events name were lost. */
  acceptLostContent: z.stringbool({ error: 'must be true or false' }).or(z.boolean()).default(false),
  /** Default none. CIDRs that outgoing calls may reach although they are not public. */
  allowedNetworks: z.array(cidr).default([]),
  /** Default none. Where this instance is: providers of the same region are preferred. */
  region: z.string().min(1, 'must not be empty').optional(),
  /** Default false. True enables a disabled destination again when `testDestination` succeeds. */
  enableAfterTest: z.boolean().default(false),
  /** Default none. Where the world reaches this installation: `https://waybill.example.com`. Providers are given it to report to. */
  publicUrl: url('https://waybill.example.com', 'https', 'http')
    .refine((text) => URL.canParse(text) && !/[?#]/.test(text), { error: 'must be a URL without query and fragment' })
    .transform((text) => text.replace(/\/+$/, ''))
    .optional(),
  /** Default info. */
  logLevel: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  /** Default none. */
  providers: z
    .array(provider)
    .superRefine((all, context) => {
      const seen = new Set<string>();
      for (const [index, { name }] of all.entries()) {
        if (seen.has(name)) context.addIssue({ code: 'custom', path: [index, 'name'], message: `"${name}" is taken` });
        seen.add(name);
      }
    })
    .default([]),
  limits: limits.prefault({}),
  auth: auth.prefault({}),
  engine: engine.prefault({}),
  projections: projections.prefault({}),
  audit: audit.prefault({}),
});

export type Config = z.output<typeof schema>;

/** Which variable sets which field. An empty variable counts as unset: that is how Compose files pass "nothing". */
const VARIABLES = {
  PORT: 'port',
  HOST: 'host',
  WAYBILL_DATA: 'dataDir',
  DATABASE_URL: 'databaseUrl',
  EVENTSTORE_URL: 'eventStoreUrl',
  WAYBILL_ADMIN_KEY: 'adminKey',
  WAYBILL_KEY_RING_FILE: 'keyRingFile',
  WAYBILL_KEY_RING: 'keyRing',
  WAYBILL_ACCEPT_LOST_KEYS: 'acceptLostKeys',
  WAYBILL_CONTENT: 'content',
  WAYBILL_ACCEPT_LOST_CONTENT: 'acceptLostContent',
  WAYBILL_ALLOWED_NETWORKS: 'allowedNetworks',
  WAYBILL_LOG_LEVEL: 'logLevel',
  WAYBILL_PUBLIC_URL: 'publicUrl',
} as const satisfies Record<string, keyof Config>;

export type Environment = Readonly<Record<string, string | undefined>>;

/** Every problem at once. `message` is one line; neither it nor `problems` repeats a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  constructor(readonly problems: readonly FieldProblem[]) {
    super(problems.map(({ path, problem }) => `${path}: ${problem}`).join('; '));
  }
}

/**
 * Reads and checks all settings.
 *
 * @param options.cwd where relative paths start; an absolute path
 * @throws ConfigError with every problem; each names its variable or its path in the YAML file
 */
export function loadConfig(env: Environment, { cwd }: { cwd: string }): Config {
  const settings = env.WAYBILL_CONFIG ? readConfigFile(resolve(cwd, env.WAYBILL_CONFIG), env) : {};
  const variableOf = new Map<PropertyKey, string>();
  for (const [variable, field] of Object.entries(VARIABLES)) {
    const value = env[variable];
    if (!value) continue;
    settings[field] = field === 'allowedNetworks' ? value.split(/[\s,]+/).filter(Boolean) : value;
    variableOf.set(field, variable);
  }

  const result = schema.safeParse(settings);
  if (!result.success) throw new ConfigError(result.error.issues.flatMap((issue) => problemsOf(issue, variableOf)));
  const { dataDir, keyRingFile, content } = result.data;
  return {
    ...result.data,
    dataDir: resolve(cwd, dataDir),
    ...(keyRingFile !== undefined && { keyRingFile: resolve(cwd, keyRingFile) }),
    ...(content !== undefined && { content: content.startsWith('s3://') ? content : resolve(cwd, content) }),
  };
}

function readConfigFile(file: string, env: Environment): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError([
      { path: 'WAYBILL_CONFIG', problem: `cannot read ${file} (${(error as { code: string }).code})` },
    ]);
  }
  const { value, problems } = parseConfigFile(text, env);
  if (problems.length > 0) throw new ConfigError(problems);
  return value;
}

function problemsOf(issue: z.core.$ZodIssue, variableOf: ReadonlyMap<PropertyKey, string>): FieldProblem[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({ path: [...issue.path, key].join('.'), problem: 'is not a known setting' }));
  }
  const [field, ...rest] = issue.path;
  const path = [variableOf.get(field ?? '') ?? field, ...rest].join('.');
  // zod's own texts name types and allowed values, never the value that was given.
  return [{ path, problem: issue.message.replace(/^Invalid (input|option): /, '') }];
}
