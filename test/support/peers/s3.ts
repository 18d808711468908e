import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import S3rver from 's3rver';
import { type HttpFront, startHttpFront } from './http-front.js';

export interface S3Peer {
  readonly front: HttpFront;
  /** The server itself, without the front. */
  readonly origin: string;
  readonly bucket: string;
  close(): Promise<void>;
}

/** s3rver, an S3 server of its own making on 127.0.0.1; it keeps objects, and takes any credentials. */
export async function startS3(): Promise<S3Peer> {
  const directory = await mkdtemp(join(tmpdir(), 'waybill-s3-'));
  const bucket = 'hospital-archive';
  const server = new S3rver({
    ...{ address: '127.0.0.1', port: 0, silent: true, directory },
    configureBuckets: [{ name: bucket, configs: [] }],
  });
  const { port } = (await server.run()) as AddressInfo;
  const front = await startHttpFront(port);
  return {
    front,
    origin: `http://127.0.0.1:${port}`,
    bucket,
    close: async () => {
      await front.close();
      await server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
