import { afterAll, beforeAll } from 'vitest';
import { EmbeddedLog } from '../../../src/event-store/embedded-log.js';
import { temporaryFolder } from '../../support/logs.js';
import { eventStoreContract } from './contract.js';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder.remove());

eventStoreContract('the embedded log', async () => EmbeddedLog.open(folder.path), { numRuns: 40 });
