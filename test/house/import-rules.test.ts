import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cruise, type ICruiseOptions, type ICruiseResult } from 'dependency-cruiser';
import extractOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/**
 * The rules of .dependency-cruiser.mjs on a small house of their own: what is allowed passes, and each rule bites. A
 * rule with a slip in its pattern matches nothing and looks exactly like a rule that everybody keeps.
 */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A house in order, one line for each import that must stay allowed. */
const HOUSE: Record<string, string[]> = {
  'src/domain/vocabulary.ts': [],
  'src/domain/rejection.ts': ["import type { A } from './vocabulary.js'"],
  'src/domain/delivery.ts': ["import { a } from './vocabulary.js'", "import { b } from './rejection.js'"],
  'src/event-store/event-store.ts': ["import type { A } from '../domain/vocabulary.js'"],
  'src/event-store/codec.ts': ["import type { A } from './event-store.js'"],
  'src/event-store/embedded-log.ts': [
    "import { open } from 'lmdb'",
    "import { crc32 } from 'node:zlib'",
    "import type { A } from './event-store.js'",
  ],
  'src/event-store/eventstoredb/event-store-db.ts': [
    "import { parse } from '@eventstore/db-client'",
    "import { status } from '@grpc/grpc-js'",
    "import type { A } from '../event-store.js'",
  ],
  'src/commands/executor.ts': [
    "import { createHash } from 'node:crypto'",
    "import { Command } from '@nestjs/cqrs'",
    "import { a } from '../domain/delivery.js'",
    "import type { A } from '../event-store/event-store.js'",
    "import { b } from '../event-store/codec.js'",
  ],
  'src/sagas/targets.ts': ["import type { A } from '../channels/channel.js'"],
  'src/sagas/engine.ts': [
    "import pg from 'pg'",
    "import { a } from '../domain/delivery.js'",
    "import { b } from '../commands/executor.js'",
    "import { c } from '../event-store/codec.js'",
    "import { d } from './targets.js'",
  ],
  'src/channels/channel.ts': ["import type { A } from '../domain/vocabulary.js'"],
  'src/channels/net/http.ts': ["import { request } from 'undici'", "import type { A } from '../channel.js'"],
  'src/channels/vendors/twilio.ts': ["import { a } from '../net/http.js'"],
  'src/channels/messages/sms.ts': ["import type { A } from '../channel.js'"],
  'src/channels/adapters/webhook.ts': ["import { a } from '../net/http.js'", "import type { A } from '../channel.js'"],
  'src/channels/adapters/twilio.ts': [
    "import { a } from '../vendors/twilio.js'",
    "import { c } from '../messages/sms.js'",
    "import { b } from '../../domain/vocabulary.js'",
    "import { request } from 'undici'",
    "import type { Twilio } from 'twilio'",
    "const sdk = await import('twilio')",
  ],
  'src/channels/registry.ts': ["import { a } from './adapters/webhook.js'", "import { b } from './adapters/twilio.js'"],
  'src/projections/deliveries.ts': [
    "import pg from 'pg'",
    "import { a } from '../domain/delivery.js'",
    "import type { A } from '../event-store/codec.js'",
  ],
  'src/security/principal.ts': [
    "import type { A } from '../domain/delivery.js'",
    "import { b } from '../domain/vocabulary.js'",
  ],
  'src/audit/tree.ts': ["import type { A } from '../event-store/event-store.js'"],
  'src/graphql/delivery.resolver.ts': [
    "import { Resolver } from '@nestjs/graphql'",
    "import { a } from '../commands/executor.js'",
    "import { b } from '../projections/deliveries.js'",
    "import { c } from '../security/principal.js'",
    "import { d } from '../audit/tree.js'",
    "import { e } from '../domain/vocabulary.js'",
    "import { type F } from '../domain/delivery.js'",
    "import type { G } from '../event-store/event-store.js'",
    "import type { H } from '../channels/channel.js'",
    "import type { I } from '../sagas/targets.js'",
  ],
  'src/http/callbacks.controller.ts': [
    "import { a } from '../commands/executor.js'",
    "import { b } from '../projections/deliveries.js'",
    "import { c } from '../security/principal.js'",
  ],
  'src/platform/database/migrations/first.ts': ["import { a } from '../../config.js'"],
  'src/platform/config.ts': ["import { a } from '../domain/vocabulary.js'"],
  'src/app/app.module.ts': [
    "import { a } from '../event-store/embedded-log.js'",
    "import { b } from '../channels/registry.js'",
    "import { c } from '../sagas/engine.js'",
    "import { d } from '../graphql/delivery.resolver.js'",
    "import { e } from '../http/callbacks.controller.js'",
    "import { CqrsModule } from '@nestjs/cqrs'",
  ],
  'src/cli/main.ts': [
    "import { a } from '../app/app.module.js'",
    "import { b } from '../event-store/embedded-log.js'",
    "import { c } from '../platform/database/migrations/first.js'",
  ],
  'test/support/clock.ts': [],
};

/** A file whose one line breaks the rules named after it. */
type Offence = readonly [file: string, line: string, ...rules: string[]];

const OFFENCES: readonly Offence[] = [
  ['src/domain/x-node.ts', "import { randomUUID } from 'node:crypto'", 'domain-is-pure'],
  ['src/domain/x-package.ts', "import { request } from 'undici'", 'domain-is-pure'],
  ['src/domain/x-type.ts', "import type { A } from '../event-store/event-store.js'", 'domain-is-pure'],
  ['src/event-store/x.ts', "import { a } from '../commands/executor.js'", 'event-store-knows-domain-only'],
  ['src/event-store/x-package.ts', "import pg from 'pg'", 'event-store-has-few-packages'],
  ['src/event-store/x-grpc.ts', "import { status } from '@grpc/grpc-js'", 'event-store-has-few-packages'],
  ['src/event-store/content/x.ts', "import pg from 'pg'", 'content-has-few-packages'],
  ['src/event-store/eventstoredb/x.ts', "import { open } from 'lmdb'", 'eventstoredb-has-few-packages'],
  ['src/commands/x.ts', "import { a } from '../projections/deliveries.js'", 'commands-know-domain-and-log'],
  ['src/commands/x-package.ts', "import pg from 'pg'", 'commands-have-few-packages'],
  [
    'src/commands/x-log.ts',
    "import { a } from '../event-store/embedded-log.js'",
    'commands-know-domain-and-log',
    'only-composition-names-adapters',
  ],
  ['src/sagas/x.ts', "import { a } from '../projections/deliveries.js'", 'sagas-know-ports-only'],
  [
    'src/sagas/x-log.ts',
    "import type { A } from '../event-store/embedded-log.js'",
    'sagas-know-ports-only',
    'only-composition-names-adapters',
  ],
  ['src/sagas/x-helper.ts', "import { a } from '../channels/net/http.js'", 'sagas-know-ports-only'],
  [
    'src/sagas/x-adapter.ts',
    "import { a } from '../channels/adapters/webhook.js'",
    'sagas-know-ports-only',
    'only-registry-imports-adapters',
  ],
  [
    'src/sagas/x-registry.ts',
    "import { a } from '../channels/registry.js'",
    'sagas-know-ports-only',
    'only-composition-names-adapters',
  ],
  ['src/sagas/x-nest.ts', "import { Injectable } from '@nestjs/common'", 'no-framework-in-the-core'],
  ['src/sagas/x-saga.ts', "import { Saga } from '@nestjs/cqrs'", 'no-framework-in-the-core', 'no-cqrs-events'],
  ['src/channels/x.ts', "import { a } from '../domain/delivery.js'", 'channels-know-vocabulary-only'],
  [
    'src/channels/x-nest.ts',
    "import { Injectable } from '@nestjs/common'",
    'no-framework-in-the-core',
    'channels-load-packages-when-used',
  ],
  ['src/channels/x-sdk.ts', "import { Twilio } from 'twilio'", 'channels-load-packages-when-used'],
  ['src/channels/x-database.ts', "import pg from 'pg'", 'no-database-in-channels', 'channels-load-packages-when-used'],
  ['src/channels/x-registry.ts', "import { a } from './registry.js'", 'channels-do-not-know-registry'],
  ['src/channels/net/x.ts', "import type { A } from '../messages/sms.js'", 'ways-out-know-no-message'],
  ['src/channels/files/x.ts', "import { a } from '../vendors/twilio.js'", 'vendors-are-for-their-adapters'],
  ['src/channels/x-helper.ts', "import { a } from './adapters/webhook.js'", 'only-registry-imports-adapters'],
  [
    'src/channels/adapters/smtp.ts',
    "import { a } from './twilio.js'",
    'adapters-stand-alone',
    'only-registry-imports-adapters',
  ],
  ['src/projections/x.ts', "import { a } from '../commands/executor.js'", 'projections-know-domain-and-log'],
  ['src/projections/x-cqrs.ts', "import { EventBus } from '@nestjs/cqrs'", 'no-cqrs-events'],
  ['src/audit/x.ts', "import { a } from '../projections/deliveries.js'", 'audit-knows-domain-and-log'],
  ['src/graphql/x.ts', "import { a } from '../sagas/engine.js'", 'graphql-is-the-edge', 'graphql-knows-ports-as-types'],
  ['src/graphql/x-type.ts', "import type { A } from '../sagas/engine.js'", 'graphql-is-the-edge'],
  ['src/graphql/x-platform.ts', "import { a } from '../platform/config.js'", 'graphql-is-the-edge'],
  ['src/graphql/x-value.ts', "import { a } from '../sagas/targets.js'", 'graphql-knows-ports-as-types'],
  ['src/graphql/x-decider.ts', "import { a } from '../domain/delivery.js'", 'graphql-decides-nothing'],
  ['src/http/x.ts', "import { a } from '../sagas/engine.js'", 'http-is-the-edge'],
  ['src/security/x.ts', "import type { A } from '../commands/executor.js'", 'security-knows-domain-types'],
  ['src/security/x-value.ts', "import { a } from '../domain/delivery.js'", 'security-knows-domain-as-types'],
  ['src/platform/x.ts', "import { a } from '../projections/deliveries.js'", 'platform-is-the-ground'],
  ['src/platform/x-domain.ts', "import type { A } from '../domain/delivery.js'", 'platform-is-the-ground'],
  ['src/cli/x.ts', "import { a } from '../channels/adapters/webhook.js'", 'only-registry-imports-adapters'],
  ['src/new-folder/x.ts', "import { a } from '../app/app.module.js'", 'nobody-imports-composition'],
  ['src/new-folder/x-log.ts', "import { a } from '../event-store/embedded-log.js'", 'only-composition-names-adapters'],
  ['src/cli/x-dev.ts', "import { fc } from 'fast-check'", 'only-listed-packages'],
  ['src/cli/x-unlisted.ts', "import { a } from 'left-over'", 'only-listed-packages'],
  ['src/cli/x-nowhere.ts', "import { a } from './nowhere.js'", 'imports-resolve'],
  ['src/cli/x-test.ts', "import { a } from '../../test/support/clock.js'", 'src-stands-alone'],
  ['src/cli/x-circle-a.ts', "import type { A } from './x-circle-b.js'", 'no-circular'],
  // A circle is reported once, for all its files.
  ['src/cli/x-circle-b.ts', "import { a } from './x-circle-a.js'"],
  ['src/cli/x-orphan.ts', 'export const forgotten = 1', 'no-orphans'],
  ['src/cli/x-shallow.ts', "import { a } from './one/two/three/x-deep.js'", 'not-too-deep'],
  ['src/cli/one/two/three/x-deep.ts', "import { a } from '../../../main.js'", 'not-too-deep-either'],
];

const LISTED = [
  '@eventstore/db-client',
  '@grpc/grpc-js',
  '@nestjs/common',
  '@nestjs/cqrs',
  '@nestjs/graphql',
  'lmdb',
  'pg',
  'twilio',
  'undici',
];
const MANIFEST = {
  name: 'house',
  type: 'module',
  dependencies: Object.fromEntries(LISTED.map((name) => [name, '1.0.0'])),
  devDependencies: { 'fast-check': '1.0.0' },
};

let house: string;
let rules: ICruiseOptions;
/** `rule: file`, as found. */
let found: string[];

beforeAll(async () => {
  house = await mkdtemp(join(tmpdir(), 'waybill-house-'));
  for (const [file, lines] of Object.entries(HOUSE)) await put(file, lines.join('\n'));
  for (const [file, line] of OFFENCES) await put(file, line);
  await put('package.json', JSON.stringify(MANIFEST));
  for (const name of [...LISTED, 'fast-check', 'left-over']) {
    await put(`node_modules/${name}/package.json`, JSON.stringify({ name, version: '1.0.0', main: 'index.js' }));
    await put(`node_modules/${name}/index.js`, '');
  }

  rules = await extractOptions(join(ROOT, '.dependency-cruiser.mjs'));
  const { output } = await cruise(['src'], { ...rules, baseDir: house });
  const { violations } = (output as ICruiseResult).summary;
  found = violations.map(({ rule, from }) => `${rule.name}: ${from}`);
});

afterAll(() => rm(house, { recursive: true, force: true }));

async function put(file: string, content: string): Promise<void> {
  await mkdir(dirname(join(house, file)), { recursive: true });
  await writeFile(join(house, file), content);
}

describe('the import rules', () => {
  it('find every offence, each under its rules, and nothing in the files in order', () => {
    const expected = OFFENCES.flatMap(([file, , ...names]) => names.map((name) => `${name}: ${file}`));
    expect(found.toSorted()).toEqual(expected.toSorted());
  });

  it('are each broken by an offence here', () => {
    const named = new Set(OFFENCES.flatMap(([, , ...names]) => names));
    expect([...named].toSorted()).toEqual(
      forbidden()
        .map(({ name }) => name as string)
        .toSorted(),
    );
  });

  it('each give their reason', () => {
    for (const { name, severity, comment } of forbidden()) {
      expect(severity, name).toBe('error');
      expect(comment?.length, name).toBeGreaterThan(40);
    }
  });

  it('know every channel adapter there is', async () => {
    const folder = join(ROOT, 'src/channels');
    for (const file of await readdir(folder, { recursive: true })) {
      if (!file.endsWith('.ts')) continue;
      const isAdapter = /export class \w+Adapter\b/.test(await readFile(join(folder, file), 'utf8'));
      expect(file.startsWith('adapters/'), file).toBe(isAdapter);
    }
  });
});

const forbidden = () => rules.ruleSet?.forbidden ?? [];
