import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DocumentSession, shellBlocks } from '../support/document-session.js';
import { REPOSITORY } from '../support/waybill-process.js';

const readme = readFileSync(join(REPOSITORY, 'README.md'), 'utf8');
const tour = readme.slice(readme.indexOf('## A tour'), readme.indexOf('## Settings'));
const [start, receive, helper, ...steps] = shellBlocks(tour) as [string, string, string, ...string[]];

let session: DocumentSession;
const step = async (commands: string): Promise<string> => {
  const { output, code } = await session.run(`${helper}\n${commands}`);
  expect(code, output).toBe(0);
  return output;
};

beforeAll(async () => {
  session = await DocumentSession.open();
});
afterAll(() => session.close());

test('the tour of the README works as written', { timeout: 120_000 }, async () => {
  expect(steps).toHaveLength(5);
  const waybill = await session.keep(start, (output) => output.includes('Waybill is ready at'));
  expect(waybill()).toContain("The administrator's key, shown this once");
  const received = await session.keep(receive, () => session.isReceiving());

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
  const named = [...readme.matchAll(/npm (?:run )?([a-z]+:[a-z]+|start|test|demo|bench)/g)].map(
    ([, name]) => name ?? '',
  );
  expect(Object.keys(scripts)).toEqual(expect.arrayContaining([...new Set(named)]));
  const { stdout } = await promisify(execFile)('node', [join(REPOSITORY, 'bin/waybill.mjs'), '--help']);
  for (const [, command] of readme.matchAll(/bin\/waybill\.mjs ([a-z-]+)/g)) expect(stdout).toContain(command);
});
