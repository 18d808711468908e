import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DocumentSession, type Ended, shellBlocks } from '../support/document-session.js';
import { REPOSITORY } from '../support/waybill-process.js';

const walkthrough = readFileSync(join(REPOSITORY, 'docs/audit/walkthrough.md'), 'utf8');
const [start, receive, helpers, ...steps] = shellBlocks(walkthrough) as [string, string, string, ...string[]];

let session: DocumentSession;
const run = (commands: string): Promise<Ended> => session.run(`${helpers}\n${commands}`);

beforeAll(async () => {
  session = await DocumentSession.open();
});
afterAll(() => session.close());

test('the auditor’s session works as written', { timeout: 600_000 }, async () => {
  expect(steps).toHaveLength(7);
  const [happened, recorded, signed, published, entry, whole, forged] = steps as [
    ...[string, string, string, string, string, string, string],
  ];
  await session.keep(receive, () => session.isReceiving());
  await session.keep(start, (output) => output.includes('Waybill is ready at'));

  const story = await run(happened);
  expect(story.output).toContain('signing secret, shown this once: whsec_');
  expect(story.output).toMatch(/DeliveryRequested[\s\S]*ApprovalGranted[\s\S]*AttemptSucceeded\nDELIVERED\n/);

  const trail = await run(recorded);
  expect(trail.output).toMatch(/attempt 1 {2}\S+ {2}WEBHOOK by webhook {2}SUCCEEDED/);
  expect(trail.output).toContain('"actor":"admin","action":"ApprovalGranted"');

  const proof = await run(signed);
  expect(proof, proof.output).toMatchObject({ code: 0 });
  expect(proof.output).toMatch(/^waybill\.log\/[0-9a-f-]{36}\n\d+\n/);
  expect(proof.output).toContain('as they were recorded');
  expect(proof.output).toContain('{"ok":true,');
  const approval = await run(entry);
  expect(approval.output).toMatch(/^\[\d+,"\S{44}","\S{44}",\["delivery-\S+,"ApprovalGranted"/);
  const [again, all] = await Promise.all([run(published), run(whole)]);
  expect(again).toMatchObject({ code: 0, output: expect.stringContaining('as they were recorded') });
  expect(all).toMatchObject({ code: 0, output: expect.stringContaining('as the event log has them') });

  const index = /^\[(\d+),/.exec(approval.output)?.[1];
  const found = await run(forged);
  expect(found).toMatchObject({ code: 1, output: expect.stringContaining(`Entry ${index}:`) });
  expect(found.output).toContain(`"firstBadIndex":${index},`);

  // What the session has no use for: the other commands, and how they end when something is wrong. All at once: most of
  // their time is the start of a process.
  const ends = (output: unknown, code = 0) => ({ code, output });
  const others: Record<string, object> = {
    projections: ends(expect.stringMatching(/^NAME +VERSION/)),
    'dead-letters list --json': ends('{"deliveries":[],"endCursor":null}\n'),
    'destinations list': ends(expect.stringContaining('regulator')),
    'deliveries show nothing': ends(expect.stringContaining('no delivery nothing'), 1),
    'deliveries list --first 0': ends(expect.stringContaining('from 1 to 200'), 1),
    'projections --key wrong': ends(expect.any(String), 1),
    'projections --url http://127.0.0.1:1': ends('Waybill does not answer at http://127.0.0.1:1.\n', 1),
    migrate: ends(expect.stringContaining('DATABASE_URL is not set'), 1),
    'audit --help': ends(expect.stringContaining('docs/audit/walkthrough.md')),
  };
  const commands = Object.keys(others);
  const results = await Promise.all([
    run('waybill doctor --json'),
    run('source <(waybill completion bash); COMP_WORDS=(waybill audit v); COMP_CWORD=2; _waybill; echo $COMPREPLY'),
    ...commands.map((command) => run(`waybill ${command}`)),
  ]);
  const [examined, completed, ...ended] = results as [Ended, Ended, ...Ended[]];
  expect(Object.fromEntries(commands.map((command, at) => [command, ended[at]]))).toEqual(others);
  expect(completed.output).toBe('verify\n');
  const doctor = JSON.parse(examined.output) as { what: string; state: string }[];
  expect(doctor.filter(({ state }) => state !== 'ok')).toEqual([]);
  expect(doctor.map(({ what }) => what)).toContain('server');
  const remedy = expect.stringContaining('chmod 600');
  expect(await run('chmod 644 .waybill/audit-key.pem; waybill doctor')).toMatchObject({ code: 1, output: remedy });
});
