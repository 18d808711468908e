import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { BlobServiceClient, StorageSharedKeyCredential } from '@azure/storage-blob';
import { unusedPort } from './http-peer.js';

/** The account that every Azurite has; documented, and no secret. */
export const AZURITE_ACCOUNT = {
  accountName: 'devstoreaccount1',
  accountKey: 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==',
};

export interface Azurite {
  readonly port: number;
  readonly container: string;
  readonly service: BlobServiceClient;
  close(): Promise<void>;
}

/** Microsoft's own emulator of Azure Storage on 127.0.0.1, which checks signatures. */
export async function startAzurite(): Promise<Azurite> {
  const folder = await mkdtemp(join(tmpdir(), 'waybill-azurite-'));
  const port = await unusedPort();
  const main = join(dirname(createRequire(import.meta.url).resolve('azurite/package.json')), 'dist/src/blob/main.js');
  const flags = ['--silent', '--skipApiVersionCheck', '--disableTelemetry', '--location', folder];
  const server = spawn(process.execPath, [main, ...flags, '--blobPort', String(port)], { stdio: 'ignore' });
  const credential = new StorageSharedKeyCredential(AZURITE_ACCOUNT.accountName, AZURITE_ACCOUNT.accountKey);
  const url = `http://127.0.0.1:${port}/${AZURITE_ACCOUNT.accountName}`;
  const service = new BlobServiceClient(url, credential, { retryOptions: { maxTries: 1 } });
  const container = 'archive';
  for (let tried = 0; ; tried += 1) {
    const isUp = await service.createContainer(container).then(
      () => true,
      () => false,
    );
    if (isUp) break;
    if (tried === 300 || server.exitCode !== null) throw new Error('azurite does not start');
    await pause(100);
  }
  return {
    port,
    container,
    service,
    close: async () => {
      if (server.exitCode === null) {
        server.kill();
        await once(server, 'exit');
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}
