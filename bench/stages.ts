import { rounded } from './clock.js';
import { type Busy, busyIn, type Frame, ofEachStack, type Phase, type ThreadProfile } from './profiles.js';

/** On what a delivery's CPU time goes, from its request to its rows in the read models. */
export const STAGES = {
  accept: 'accept: HTTP, GraphQL, credentials, validation, commands',
  decide: 'decide: the rules of deliveries',
  log: 'log: sealing, encoding, appending, reading',
  engine: 'engine: reacting, queues, limits, checkpoints',
  send: 'send: adapters, signatures, HTTP to the receiver',
  readModels: 'read models: folding, rows, PostgreSQL client',
  audit: 'audit trail: hashes, tree',
  garbage: 'collecting garbage',
  rest: 'everything else',
} as const;

export type Stage = keyof typeof STAGES;

export interface StageShare {
  readonly stage: Stage;
  /** Of the CPU time of all profiled threads. */
  readonly percent: number;
  /** For one delivery. */
  readonly micros: number;
}

export interface Stages {
  readonly stages: readonly StageShare[];
  /** How busy each thread was, the main thread first. */
  readonly busyPercent: readonly number[];
}

/** Where our own code is, by its folder below dist/. */
const FOLDERS: Readonly<Record<string, Stage>> = {
  graphql: 'accept',
  http: 'accept',
  security: 'accept',
  commands: 'accept',
  domain: 'decide',
  'event-store': 'log',
  sagas: 'engine',
  channels: 'send',
  projections: 'readModels',
  audit: 'audit',
};

/** Of others' code what works for one stage only; the rest counts for whoever called it. */
const PACKAGES: Readonly<Record<string, Stage>> = {
  graphql: 'accept',
  mercurius: 'accept',
  fastify: 'accept',
  '@nestjs/graphql': 'accept',
  'secure-json-parse': 'accept',
  undici: 'send',
  lmdb: 'log',
};

const OWN = /\/dist\/([a-z-]+)\//;
const PACKAGE = /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//;
/** Requests come in by node's own server. */
const SERVER = /^node:_http_/;

/** @returns the stage that a frame belongs to whoever called it, undefined when it depends on that */
function stageOf({ functionName, url }: Frame): Stage | undefined {
  if (functionName === '(garbage collector)') return 'garbage';
  if (SERVER.test(url)) return 'accept';
  const library = PACKAGE.exec(url)?.[1];
  if (library !== undefined) return PACKAGES[library];
  return FOLDERS[OWN.exec(url)?.[1] ?? ''];
}

/**
 * What a part of a run was spent on, by the samples of V8's profiler: each belongs to the innermost function on the stack
 * whose stage is known.
 */
export function stagesOf(profiles: readonly ThreadProfile[], phase: Phase & { readonly deliveries: number }): Stages {
  const spent = new Map<Stage, number>();
  const threads = busyIn(profiles, phase);
  for (const [index, profile] of profiles.entries()) {
    const { samples, worth } = threads[index] as Busy;
    const stageOfSample = ofEachStack(profile, stageOfStack);
    for (const sample of samples) {
      const stage = stageOfSample(sample);
      spent.set(stage, (spent.get(stage) ?? 0) + sample.micros * worth);
    }
  }
  const total = [...spent.values()].reduce((sum, micros) => sum + micros, 0);
  const stages = (Object.keys(STAGES) as Stage[]).map((stage) => {
    const micros = spent.get(stage) ?? 0;
    const percent = rounded((100 * micros) / Math.max(total, 1), 1);
    return { stage, percent, micros: rounded(micros / phase.deliveries, 1) };
  });
  return { stages, busyPercent: threads.map(({ percent }) => percent) };
}

function stageOfStack(frames: Iterable<Frame>): Stage {
  for (const frame of frames) {
    const stage = stageOf(frame);
    if (stage) return stage;
  }
  return 'rest';
}
