import { buildIfStale } from '../scripts/build.mjs';

/** Once, before any test: those that start Waybill must not each find dist/ stale and build it under each other. */
export default async function setup(): Promise<void> {
  await buildIfStale();
}
