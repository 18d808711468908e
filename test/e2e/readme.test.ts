import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { unusedPort } from '../support/peers/http-peer.js';
import { REPOSITORY, removeDataDir } from '../support/waybill-process.js';

/** The tour of the README, run as it is written: in a folder of its own, on other ports, without npm. */
const readme = readFileSync(join(REPOSITORY, 'README.md'), 'utf8');
const tour = readme.slice(readme.indexOf('## A tour'), readme.indexOf('## Settings'));
const blocks = [...tour.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block ?? '');
const [start, receive, helper, ...steps] = blocks as [string, string, string, ...string[]];

let cwd: string;
let ports: { api: number; hook: number };
const running: ChildProcess[] = [];

const adapted = (command: string) =>
  command
    .replaceAll('3000', String(ports.api))
    .replaceAll('4000', String(ports.hook))
    .replace('npm start', `node '${join(REPOSITORY, 'bin/waybill.mjs')}' start`);

/** Runs a command of the tour that stays, until it has printed or done what shows that it is ready. */
async function keep(command: string, isReady: (output: string) => Promise<boolean> | boolean): Promise<() => string> {
  const child = spawn('bash', ['-c', `exec env PORT=${ports.api} ${adapted(command)}`], { cwd, detached: true });
  running.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  await expect.poll(() => isReady(output), { timeout: 60_000, interval: 50 }).toBe(true);
  return () => output;
}

const step = async (command: string): Promise<string> =>
  (await promisify(execFile)('bash', ['-c', `${adapted(helper)}\n${adapted(command)}`], { cwd })).stdout;

beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'waybill-readme-'));
  ports = { api: await unusedPort(), hook: await unusedPort() };
});

afterAll(async () => {
  for (const child of running) {
    if (child.exitCode !== null) continue;
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  await removeDataDir(join(cwd, '.waybill'));
});

test('the tour of the README works as written', { timeout: 120_000 }, async () => {
  expect(steps).toHaveLength(5);
  const waybill = await keep(start, (output) => output.includes('Waybill is ready at'));
  expect(waybill()).toContain("The administrator's key, shown this once");
  const received = await keep(receive, () =>
    fetch(`http://127.0.0.1:${ports.hook}`).then(
      () => true,
      () => false,
    ),
  );

  const [create, deliver, watch, approve, figures] = steps as [string, string, string, string, string];
  expect(JSON.parse(await step(create))).toMatchObject({
    data: { createDestination: { signingSecret: expect.stringMatching(/^whsec_/) } },
  });
  expect(JSON.parse(await step(deliver))).toMatchObject({ data: { requestDelivery: { replayed: false } } });
  expect(JSON.parse(await step(deliver))).toMatchObject({ data: { requestDelivery: { replayed: true } } });
  await expect.poll(received, { timeout: 10_000 }).toContain('P-17');
  await expect
    .poll(async () => JSON.parse(await step(watch)).data.deliveries.edges[0].node, { timeout: 10_000 })
    .toMatchObject({ status: 'DELIVERED', attempts: [{ number: 1, status: 'SUCCEEDED', provider: 'webhook' }] });
  const answers = (await step(approve))
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(answers).toMatchObject([
    { data: { requestDelivery: { delivery: { status: 'HELD', holds: [{ reason: 'approval' }] } } } },
    { data: { approveDelivery: { status: 'QUEUED' } } },
  ]);
  await expect.poll(received, { timeout: 10_000 }).toContain('quarterly figures');
  await expect
    .poll(async () => JSON.parse(await step(figures)).data.dashboard, { timeout: 10_000 })
    .toMatchObject([{ channel: 'WEBHOOK', total: 2, delivered: 2, failed: 0, pending: 0 }]);
});

test('every command that the README names is there', async () => {
  const { scripts } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { scripts: object };
  const named = [...readme.matchAll(/npm (?:run )?(start|test|demo|bench|[a-z]+:[a-z]+)/g)].map(
    ([, name]) => name ?? '',
  );
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining([...new Set(named)]));
  const { stdout } = await promisify(execFile)('node', [join(REPOSITORY, 'bin/waybill.mjs'), '--help']);
  for (const [, command] of readme.matchAll(/bin\/waybill\.mjs ([a-z-]+)/g)) expect(stdout).toContain(command);
});
