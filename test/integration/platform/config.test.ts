// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what the configuration file's own references look like
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError, loadConfig } from '../../../src/platform/config.js';

let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'waybill-config-'));
});
afterAll(() => rm(cwd, { recursive: true }));

const SECRET = 'correct-horse-battery-staple';

function problemsOf(env: Record<string, string>) {
  try {
    loadConfig(env, { cwd });
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    const { message, problems } = error as ConfigError;
    expect(message).not.toContain('\n');
    expect(message).not.toContain(SECRET);
    return problems.map(({ path, problem }) => `${path}: ${problem}`);
  }
  return [];
}

async function withYaml(yaml: string, env: Record<string, string> = {}) {
  await writeFile(join(cwd, 'waybill.yaml'), yaml);
  return { WAYBILL_CONFIG: 'waybill.yaml', ...env };
}

describe('defaults and the environment', () => {
  it('needs no setting at all', () => {
    expect(loadConfig({}, { cwd })).toEqual({
      acceptLostKeys: false,
      acceptLostContent: false,
      contentGraceHours: 24,
      port: 3000,
      host: '127.0.0.1',
      dataDir: join(cwd, '.waybill'),
      trustedProxies: [],
      corsOrigins: [],
      introspection: 'administrators',
      allowedNetworks: [],
      logLevel: 'info',
      providers: [],
      limits: {
        maxBodyBytes: 26_214_400,
        maxAttachmentBytes: 10_485_760,
        maxQueryDepth: 12,
        maxQueryCost: 5_000,
        maxMutations: 50,
        requestsPerMinute: 60_000,
      },
      engine: {
        concurrency: 128,
        largeConcurrency: 8,
        largeBytes: 262_144,
        destinationConcurrency: 32,
        breaker: { failureThreshold: 10, recoveryTimeoutMs: 300_000, halfOpenMaxCalls: 3 },
        disableAfter: { failures: 50, hours: 24 },
        maxUnderWay: 100_000,
        checkpointIntervalMs: 1_000,
        drainTimeoutMs: 8_000,
      },
      audit: { checkpointEntries: 10_000, checkpointSeconds: 60, publish: [] },
      auth: { oidc: [], maxFailures: 20, failureWindowSeconds: 60 },
      enableAfterTest: false,
      projections: { batchEvents: 2_000, batchDelayMs: 25, readYourWritesTimeoutMs: 2_000, keepReplacedHours: 24 },
    });
  });

  it('reads every variable', () => {
    const env = {
      PORT: '0',
      HOST: '::1',
      WAYBILL_DATA: 'data/here',
      DATABASE_URL: 'postgres://waybill@db/waybill',
      EVENTSTORE_URL: 'esdb+discover://a:2113,b:2113?tls=true',
      WAYBILL_ADMIN_KEY: 'k'.repeat(32),
      WAYBILL_ALLOWED_NETWORKS: '10.0.0.0/8, 127.0.0.1/32 fd00::/8',
      WAYBILL_LOG_LEVEL: 'warn',
    };
    expect(loadConfig(env, { cwd })).toMatchObject({
      port: 0,
      host: '::1',
      dataDir: join(cwd, 'data/here'),
      databaseUrl: env.DATABASE_URL,
      eventStoreUrl: env.EVENTSTORE_URL,
      adminKey: env.WAYBILL_ADMIN_KEY,
      allowedNetworks: ['10.0.0.0/8', '127.0.0.1/32', 'fd00::/8'],
      logLevel: 'warn',
    });
  });

  it('takes an empty variable for one that is not set', () => {
    expect(loadConfig({ PORT: '', WAYBILL_CONFIG: '', WAYBILL_ADMIN_KEY: '' }, { cwd }).port).toBe(3000);
  });

  it.each([
    ['PORT', 'http', 'must be a whole number from 0 to 65535, not "http"'],
    ['PORT', '65536', 'must be a whole number from 0 to 65535, not 65536'],
    ['PORT', '-1', 'must be a whole number from 0 to 65535, not "-1"'],
    ['PORT', '80.5', 'must be a whole number from 0 to 65535, not "80.5"'],
    ['HOST', 'http://here', 'must be an IP address or a host name'],
    [
      'DATABASE_URL',
      `mysql://root:${SECRET}@db/x`,
      'must be a URL such as postgresql://user:password@host:5432/waybill',
    ],
    ['EVENTSTORE_URL', `http://admin:${SECRET}@es`, 'must be a URL such as esdb://host:2113?tls=true'],
    [
      'WAYBILL_CONTENT',
      `s3://user:${SECRET}@bucket/`,
      'must be a folder or a URL such as s3://bucket/prefix?region=eu-central-1',
    ],
    ['WAYBILL_ADMIN_KEY', SECRET, 'must have 32 or more characters'],
    ['WAYBILL_LOG_LEVEL', 'loud', 'expected one of "fatal"|"error"|"warn"|"info"|"debug"|"trace"|"silent"'],
    ['WAYBILL_CONFIG', 'missing.yaml', expect.stringMatching(/^cannot read \/.*missing\.yaml \(ENOENT\)$/)],
  ])('refuses %s=%s', (variable, value, problem) => {
    const [first, ...others] = problemsOf({ [variable]: value });
    expect(first?.startsWith(`${variable}: `)).toBe(true);
    expect(first?.slice(variable.length + 2)).toEqual(problem);
    expect(others).toEqual([]);
  });

  it.each(['10.0.0.1', '10/8', '012.0.0.0/8', '10.0.0.0/33', 'fd00::/129', 'localhost/8'])(
    'refuses the network %s',
    (range) => {
      expect(problemsOf({ WAYBILL_ALLOWED_NETWORKS: `10.0.0.0/8,${range}` })).toEqual([
        `WAYBILL_ALLOWED_NETWORKS.1: "${range}" is not an address range such as 10.1.0.0/16, 10.1.2.3/32 or fd00::/8`,
      ]);
    },
  );

  it('names all problems at once', () => {
    expect(problemsOf({ PORT: 'x', HOST: ' ' })).toHaveLength(2);
  });
});

describe('the YAML file', () => {
  it('says the same and more, and the environment wins', async () => {
    const yaml = `
      port: 4000
      host: 0.0.0.0
      allowedNetworks: [10.0.0.0/8]
      limits: { maxQueryDepth: 5 }
      providers:
        - name: main-smtp
          channel: EMAIL
          config: { host: mail.example, port: 587 }
          weight: 0.5
          limits: { perSecond: "2.5", burst: 10 }
    `;
    expect(loadConfig(await withYaml(yaml, { PORT: '5000' }), { cwd })).toMatchObject({
      port: 5000,
      host: '0.0.0.0',
      allowedNetworks: ['10.0.0.0/8'],
      limits: { maxQueryDepth: 5, maxQueryCost: 5_000 },
      providers: [
        {
          name: 'main-smtp',
          channel: 'EMAIL',
          config: { host: 'mail.example', port: 587 },
          ...{ priority: 1, weight: 0.5, cost: 0, limits: { perSecond: 2.5, burst: 10 } },
        },
      ],
    });
  });

  it.each(['', '# nothing yet', 'null'])('may be empty: %j', async (yaml) => {
    expect(loadConfig(await withYaml(yaml), { cwd }).port).toBe(3000);
  });

  it('puts in variables and defaults, and types what is not in quotes', async () => {
    const yaml = `
      port: \${MY_PORT}
      providers:
        - name: smtp
          channel: EMAIL
          config:
            port: \${SMTP_PORT:-587}
            secure: \${SMTP_SECURE:-false}
            account: \${ACCOUNT}
            password: "\${PASSWORD}"
            url: https://\${SMTP_HOST:-localhost}:\${SMTP_PORT:-587}/\${EMPTY:-x}\${EMPTY}
            template: $\${NAME}
    `;
    const env = await withYaml(yaml, { MY_PORT: '4001', ACCOUNT: '007', PASSWORD: '12345', EMPTY: '' });
    const { port, providers } = loadConfig(env, { cwd });
    expect(port).toBe(4001);
    expect(providers[0]?.config).toEqual({
      port: 587,
      secure: false,
      account: '007',
      password: '12345',
      url: 'https://localhost:587/x',
      template: '${NAME}',
    });
  });

  it('cannot be restructured by what a variable holds', async () => {
    const yaml = `
      providers:
        - name: a
          channel: EMAIL
          config:
            key: \${KEY}
    `;
    const KEY = 'x }\nevil: true\nport: 9 # {';
    expect(loadConfig(await withYaml(yaml, { KEY }), { cwd }).providers[0]?.config).toEqual({ key: KEY });
  });

  it.each([
    ['port: ${GONE}', 'port: needs the environment variable GONE, which is not set'],
    [
      'providers: [{ config: { a: [x, "${GONE}"] } }]',
      'providers.0.config.a.1: needs the environment variable GONE, which is not set',
    ],
    ['host: ${not valid}', 'host: has a ${ that is not ${NAME} or ${NAME:-default}'],
    ['prot: 3000', 'prot: is not a known setting'],
    ['limits: { maxQueryDept: 3 }', 'limits.maxQueryDept: is not a known setting'],
    ['engine: { concurrency: 0 }', 'engine.concurrency: must be a whole number from 1 to 10000, not 0'],
    ['engine: fast', 'engine: expected object, received string'],
    ['- port: 3000', 'WAYBILL_CONFIG: must hold settings by name (key: value)'],
    ['port: 1\nport: 2', 'WAYBILL_CONFIG line 2: Map keys must be unique'],
    [`adminKey: [${SECRET}\nport: 3`, expect.stringMatching(/^WAYBILL_CONFIG line \d: /)],
    [
      'providers: [{ name: a, channel: FAX }]',
      expect.stringMatching(/^providers\.0\.channel: expected one of "EMAIL"\|"SMS"/),
    ],
    [
      'providers: [{ name: a b, channel: SMS }]',
      'providers.0.name: must be 1 to 64 letters, digits, dots, dashes or underscores',
    ],
    [
      'providers: [{ name: a, channel: SMS, cost: -1 }]',
      'providers.0.cost: must be a number from 0 to 1000000, not -1',
    ],
    ['providers: [{ name: a, channel: SMS }, { name: a, channel: EMAIL }]', 'providers.1.name: "a" is taken'],
    [`adminKey: ${SECRET}`, 'adminKey: must have 32 or more characters'],
  ])('refuses %j', async (yaml, problem) => {
    expect(problemsOf(await withYaml(yaml))[0]).toEqual(problem);
  });
});
