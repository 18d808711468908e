import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';

type Refusal = { readonly errors?: readonly { readonly message: string }[] };

/**
 * One of the files of `GET /export/…`, to a new file that only its owner may read, or to standard output. What does not
 * come to its end leaves no file.
 *
 * @param parameters those that are undefined are left out
 * @throws Error, one line
 */
export async function download(
  server: { readonly url: string; readonly key: string },
  file: string,
  output: string | undefined,
  parameters: Readonly<Record<string, string | undefined>>,
): Promise<void> {
  const address = new URL(`${server.url}/export/${file}`);
  for (const [name, value] of Object.entries(parameters))
    if (value !== undefined) address.searchParams.set(name, value);
  const response = await fetch(address, { headers: { authorization: `Bearer ${server.key}` } }).catch(() => {
    throw new Error(`Waybill does not answer at ${server.url}.`);
  });
  if (!response.ok || !response.body) {
    const { errors } = (await response.json().catch(() => ({}))) as Refusal;
    throw new Error(errors?.[0]?.message ?? `${server.url} answered with HTTP ${response.status}.`);
  }
  const rows = Readable.fromWeb(response.body as ReadableStream);
  if (output === undefined) return await pipeline(rows, process.stdout, { end: false }).catch(brokenOff);
  const written = createWriteStream(output, { flags: 'wx', mode: 0o600 });
  await pipeline(rows, written).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') throw new Error(`${output} is there already.`);
    await rm(output, { force: true });
    return brokenOff(error);
  });
}

/** Whoever reads our output may have enough of it. */
function brokenOff(error: NodeJS.ErrnoException): void {
  if (error.code === 'EPIPE') return;
  throw new Error(`The export broke off: ${error.message}.`);
}
