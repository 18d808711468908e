import { execFile } from 'node:child_process';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dataFolders } from '../support/data-folders.js';
import { postgresPid, REPOSITORY, startWaybill } from '../support/waybill-process.js';

/** Everything that keeps Waybill from starting. */
const folder = dataFolders('waybill-refused-');

/** Runs `waybill start` in the expectation that it ends by itself. */
const refusedStart = (env: Record<string, string>): Promise<{ code: number; stderr: string; stdout: string }> =>
  new Promise((resolve) => {
    const settings = { ...process.env, PORT: '0', WAYBILL_LOG_LEVEL: 'fatal', ...env };
    execFile('node', [join(REPOSITORY, 'bin/waybill.mjs'), 'start'], { env: settings }, (error, stdout, stderr) =>
      resolve({ code: (error as { code?: number } | null)?.code ?? 0, stderr, stdout }),
    );
  });

describe('Waybill does not start, and says why in one line,', () => {
  const oneLine = (text: string) => text.trim().split('\n');

  it('when the port is in use', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const dataDir = await folder();
    const { code, stderr } = await refusedStart({ PORT: String(port), WAYBILL_DATA: dataDir });
    expect(code).toBe(1);
    expect(oneLine(stderr)).toEqual([`Port ${port} on 127.0.0.1 is in use; set PORT to another one.`]);
    expect(await postgresPid(dataDir)).toBeUndefined();
    server.close();
  });

  it('when another instance runs on the same data, which goes on undisturbed', async () => {
    const waybill = await startWaybill();
    const { code, stderr } = await refusedStart({ WAYBILL_DATA: waybill.dataDir });
    expect(code).toBe(1);
    expect(oneLine(stderr)).toEqual([expect.stringContaining(`in use by process ${waybill.pid}`)]);
    expect(await waybill.ask('{ projections { name } }')).toBeTruthy();
    await waybill.stop();
  });

  it('when a setting is wrong', { timeout: 120_000 }, async () => {
    const config = join(await folder(), 'waybill.yaml');
    await writeFile(config, 'engine:\n  concurency: 3\n');
    const wrong: readonly (readonly [named: string, setting: Record<string, string>])[] = [
      ['PORT', { PORT: 'http' }],
      ['WAYBILL_ADMIN_KEY', { WAYBILL_ADMIN_KEY: 'short' }],
      ['WAYBILL_ALLOWED_NETWORKS', { WAYBILL_ALLOWED_NETWORKS: 'home' }],
      ['EVENTSTORE_URL', { EVENTSTORE_URL: 'esdb://127.0.0.1:9?tls=false' }],
      ['DATABASE_URL', { DATABASE_URL: 'postgresql://127.0.0.1:9/waybill' }],
      ['engine.concurency', { WAYBILL_CONFIG: config }],
    ];
    await Promise.all(
      wrong.map(async ([named, setting]) => {
        const { code, stderr } = await refusedStart({ WAYBILL_DATA: await folder(), ...setting });
        expect(code, named).toBe(1);
        expect(oneLine(stderr)).toEqual([expect.stringContaining(named)]);
      }),
    );
  });

  it('when the data directory cannot be used', async () => {
    const file = join(await folder(), 'file');
    await writeFile(file, '');
    expect((await refusedStart({ WAYBILL_DATA: file })).stderr).toContain(file);
    const newer = await folder();
    await writeFile(join(newer, 'format.json'), '{"version":99}');
    await chmod(newer, 0o700);
    expect(oneLine((await refusedStart({ WAYBILL_DATA: newer })).stderr)).toHaveLength(1);
    await rm(file);
  });
});
