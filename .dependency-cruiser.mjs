/**
 * What may import what in src/. `npx depcruise src --config` checks it; test/house/import-rules.test.ts checks that each
 * rule still bites.
 *
 * A folder's rule is a whitelist: whatever of src/ is not named is forbidden, also a folder that does not exist yet.
 * Type-only imports count: what a file must know to be read is a dependency, even if nothing of it is left at run time.
 */

/** One file for each provider; every other folder of src/channels/ is for them to share. */
const ADAPTER = '^src/channels/adapters/';
const REGISTRY = '^src/channels/registry\\.ts$';
const CHANNEL_PORT = '^src/channels/channel\\.ts$';
/** How a call to a channel is ended in time. */
const DEADLINE = '^src/channels/deadline\\.ts$';
/** What the rest of the house may know of the event store. */
const EVENT_STORE_PORT = '^src/event-store/(event-store|codec)\\.ts$';
/** The words of the business, and how its times are written. */
const VOCABULARY = '^src/domain/(vocabulary|instant)\\.ts$';
/** What puts the house together. */
const COMPOSITION_ROOT = '^src/app/';
/** Four folders or more. */
const DEEP = '^src/[^/]+/[^/]+/[^/]+/[^/]+/';

/** `folder` may import itself, the given paths of src/, and anything outside src/ that no other rule forbids. */
const mayImport = (name, folder, allowed, comment) => ({
  name,
  severity: 'error',
  comment,
  from: { path: `^src/${folder}/` },
  to: { path: '^src/', pathNot: [`^src/${folder}/`, ...allowed] },
});

const forbid = (name, from, to, comment) => ({ name, severity: 'error', comment, from, to });

export default {
  forbidden: [
    // One rule for each folder, in the direction in which data flows.
    forbid(
      'domain-is-pure',
      { path: '^src/domain/' },
      { pathNot: '^src/domain/' },
      'Decisions are repeated from the log, years later and on other machines: what they rest on must be their ' +
        'arguments. So no clock, no randomness, no framework, not even a module of Node.',
    ),
    mayImport(
      'event-store-knows-domain-only',
      'event-store',
      ['^src/domain/'],
      'The log stores facts and knows nothing of who decides or reads them; otherwise no second store could replace it.',
    ),
    forbid(
      'event-store-has-few-packages',
      { path: '^src/event-store/', pathNot: '^src/event-store/(eventstoredb|content)/' },
      { dependencyTypes: ['npm'], pathNot: '^node_modules/lmdb/' },
      'Everything rests on the log, so it rests on as little as possible: LMDB. Another store is a folder of its own.',
    ),
    forbid(
      'content-has-few-packages',
      { path: '^src/event-store/content/' },
      { dependencyTypes: ['npm'], pathNot: '^node_modules/@aws-sdk/(client-s3|lib-storage)/' },
      'Large contents lie in files, or in S3, which is spoken to by its own packages; they are loaded when they are used.',
    ),
    forbid(
      'eventstoredb-has-few-packages',
      { path: '^src/event-store/eventstoredb/' },
      { dependencyTypes: ['npm'], pathNot: '^node_modules/(@eventstore/db-client|@grpc/grpc-js)/' },
      'EventStoreDB is spoken to by its own client, its stubs and the gRPC they are made for; whoever runs the embedded ' +
        'log must be able to do without them.',
    ),
    mayImport(
      'commands-know-domain-and-log',
      'commands',
      ['^src/domain/', EVENT_STORE_PORT],
      'Commands load, decide and append. If they read projections or called channels, what they decide would depend on ' +
        'what cannot be replayed; if they named a store, it could not be chosen by configuration.',
    ),
    forbid(
      'commands-have-few-packages',
      { path: '^src/commands/' },
      { dependencyTypes: ['npm'], pathNot: '^node_modules/@nestjs/cqrs/' },
      'The CommandBus is the doorway; everything behind it is plain TypeScript that tests call without a framework.',
    ),
    mayImport(
      'sagas-know-ports-only',
      'sagas',
      ['^src/domain/', '^src/commands/', EVENT_STORE_PORT, CHANNEL_PORT, DEADLINE],
      'Process managers follow the log and call channels by their port. An engine that knew an adapter would grow ' +
        'special cases for it, and could not be tested with a channel that fails on purpose.',
    ),
    mayImport(
      'channels-know-vocabulary-only',
      'channels',
      [VOCABULARY],
      'A channel says how to send, never whether or when: it knows messages and outcomes, not deliveries, events or commands.',
    ),
    forbid(
      'adapters-stand-alone',
      { path: ADAPTER },
      { path: ADAPTER },
      'An adapter can be added, replaced or deleted by itself. What two of them need is a helper of its own.',
    ),
    forbid(
      'only-registry-imports-adapters',
      { path: '^src/', pathNot: REGISTRY },
      { path: ADAPTER },
      'The registry is the one list of adapters: who finds an adapter there finds it with its secrets and limits known.',
    ),
    forbid(
      'ways-out-know-no-message',
      { path: '^src/channels/net/' },
      { path: '^src/channels/', pathNot: '^src/channels/(net/|(channel|config|deadline|outcome)\\.ts$)' },
      'Connections, guards and tokens are the same whatever is sent: one that knew e-mail or a provider would have to be ' +
        'looked at again for every new one.',
    ),
    forbid(
      'vendors-are-for-their-adapters',
      { path: '^src/channels/', pathNot: '^src/channels/(vendors|adapters|callbacks)/' },
      { path: '^src/channels/vendors/' },
      'What only Twilio or AWS do is known to the adapters and callbacks of Twilio or AWS, and to nobody else.',
    ),
    forbid(
      'channels-do-not-know-registry',
      { path: '^src/channels/', pathNot: REGISTRY },
      { path: REGISTRY },
      'The registry knows the adapters; the other way round an adapter could hand a message on to another one.',
    ),
    mayImport(
      'projections-know-domain-and-log',
      'projections',
      ['^src/domain/', EVENT_STORE_PORT],
      'A read model follows from the log alone, or it could not be rebuilt to the same rows.',
    ),
    mayImport(
      'audit-knows-domain-and-log',
      'audit',
      ['^src/domain/', EVENT_STORE_PORT],
      'The auditor reads what is recorded; evidence that depended on the parts it is about would prove little.',
    ),
    mayImport(
      'graphql-is-the-edge',
      'graphql',
      [
        '^src/commands/',
        '^src/projections/',
        '^src/audit/',
        '^src/security/',
        '^src/domain/',
        EVENT_STORE_PORT,
        CHANNEL_PORT,
        '^src/sagas/targets\\.ts$',
      ],
      'Commands in, read models out. A resolver that reached the engine, a store or a channel would go around both. The ' +
        'log is read through its port for history and time travel.',
    ),
    forbid(
      'graphql-knows-ports-as-types',
      { path: '^src/graphql/' },
      { path: [CHANNEL_PORT, '^src/sagas/'], dependencyTypesNot: ['type-only'] },
      'Testing a destination needs to say what an adapter is; it is handed one and makes none (import type).',
    ),
    forbid(
      'graphql-decides-nothing',
      { path: '^src/graphql/' },
      { path: '^src/domain/', pathNot: VOCABULARY, dependencyTypesNot: ['type-only'] },
      'decide and evolve have one caller each way: commands and projections. The edge only names their types.',
    ),
    mayImport(
      'http-is-the-edge',
      'http',
      ['^src/commands/', '^src/projections/', '^src/security/', VOCABULARY],
      'Callbacks become commands, downloads and metrics are read models: as with GraphQL, nothing goes around them.',
    ),
    mayImport(
      'security-knows-domain-types',
      'security',
      ['^src/domain/'],
      'Who may do what is decided before anything is done, so it can lean on nothing that does it.',
    ),
    forbid(
      'security-knows-domain-as-types',
      { path: '^src/security/' },
      { path: '^src/domain/', pathNot: VOCABULARY, dependencyTypesNot: ['type-only'] },
      'Permissions are checked on names and types; a check that ran a decision would have run it before permission.',
    ),
    mayImport(
      'platform-is-the-ground',
      'platform',
      [VOCABULARY],
      'Everything may stand on the platform, so it stands on nothing of ours: configuration, logging and databases know ' +
        'no business.',
    ),

    // Who plugs things together.
    forbid(
      'only-composition-names-adapters',
      { path: '^src/', pathNot: [COMPOSITION_ROOT, '^src/cli/', '^src/event-store/', '^src/channels/'] },
      { path: [REGISTRY, '^src/event-store/'], pathNot: EVENT_STORE_PORT },
      'Which log and which channels run is decided in one place, src/app/. Everything else takes the ' +
        'port, so a cluster and a laptop run the same code.',
    ),
    forbid(
      'nobody-imports-composition',
      { path: '^src/', pathNot: ['^src/cli/', COMPOSITION_ROOT] },
      { path: COMPOSITION_ROOT },
      'What is put together does not know who does it; only the command line starts the whole.',
    ),

    // Packages.
    forbid(
      'no-framework-in-the-core',
      { path: '^src/(domain|event-store|sagas|channels)/' },
      { path: '^node_modules/@nestjs/' },
      'The engine, the log and the channels are started by Nest but are no part of it: tests, workers and benchmarks run ' +
        'them without.',
    ),
    forbid(
      'no-cqrs-events',
      { path: '^src/', pathNot: ['^src/commands/', COMPOSITION_ROOT] },
      { path: '^node_modules/@nestjs/cqrs/' },
      'Its EventBus and @Saga are in memory: they lose events and die silently. Nothing that must not be lost rides on ' +
        'them; subscriptions with checkpoints do.',
    ),
    forbid(
      'no-database-in-channels',
      { path: '^src/channels/' },
      { path: '^node_modules/(pg|typeorm|lmdb)/' },
      'An adapter that remembers something would have to be rebuilt after a crash; the engine remembers for all of them.',
    ),
    forbid(
      'only-listed-packages',
      { path: '^src/' },
      { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown', 'npm-optional'] },
      'What is not under "dependencies" of package.json is missing where Waybill is installed, or comes in a version ' +
        'that nobody chose.',
    ),
    forbid(
      'imports-resolve',
      { path: '^src/' },
      { couldNotResolve: true },
      'A path that leads nowhere is checked by no other rule.',
    ),
    forbid(
      'src-stands-alone',
      { path: '^src/' },
      { dependencyTypes: ['local'], pathNot: '^src/' },
      'The package has only what is built from src/: nothing of test/, bench/, demo/ or scripts/. What the product shares ' +
        'with them belongs to the product.',
    ),

    forbid(
      'channels-load-packages-when-used',
      { path: '^src/channels/' },
      {
        dependencyTypes: ['npm'],
        dependencyTypesNot: ['type-only'],
        dynamic: false,
        pathNot: '^node_modules/(undici|zod|ipaddr\\.js|liquidjs|libphonenumber-js)/',
      },
      'Providers’ packages take 10 to 700 ms each to load, and most installations use two of them: an adapter imports its ' +
        'own with import() when it first sends, so that the start takes as long with thirty adapters as with three.',
    ),

    // Shape.
    forbid(
      'no-circular',
      {},
      { circular: true },
      'Two files in a circle are one file that cannot be read from the beginning, and load in an order nobody chose. ' +
        'What both need is a third file.',
    ),
    forbid(
      'no-orphans',
      { path: '^src/', orphan: true, pathNot: '\\.d\\.ts$' },
      {},
      'A file that imports nothing and that nobody imports is forgotten work.',
    ),
    forbid(
      'not-too-deep',
      {},
      { path: DEEP },
      'A reader sees the architecture from `ls src`: at most three folders deep.',
    ),
    forbid(
      'not-too-deep-either',
      { path: DEEP },
      {},
      'At most three folders deep, also for files that nobody imports.',
    ),
  ],

  options: {
    doNotFollow: { path: '^node_modules/' },
    tsPreCompilationDeps: true,
    // In a worktree node_modules may be a link: packages keep their own name.
    preserveSymlinks: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      // As Node resolves an ES module. Without "types": what counts is the package that runs, not its @types.
      conditionNames: ['node', 'import', 'default', 'require'],
      mainFields: ['main'],
    },
  },
};
