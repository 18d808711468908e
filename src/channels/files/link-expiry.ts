import { z } from 'zod';
import type { Address } from '../adapter.js';

/** How long a link to a file is good: the field that says it, and the bare address that does. */

const DAY_SECONDS = 86_400;
export const DEFAULT_EXPIRY_SECONDS = 7 * DAY_SECONDS;
export const MAX_EXPIRY_SECONDS = 366 * DAY_SECONDS;
const MIN_EXPIRY_SECONDS = 60;

export const expiry = (longestSeconds: number) =>
  z.int().min(MIN_EXPIRY_SECONDS).max(longestSeconds).optional().meta({ default: DEFAULT_EXPIRY_SECONDS });

/** A bare address is how long the link is good, in seconds: a link is nobody's. */
export const linkExpiry = (longestSeconds: number): Address => ({
  problem(address) {
    const seconds = /^\d{2,8}$/.test(address) ? Number(address) : 0;
    return seconds >= MIN_EXPIRY_SECONDS && seconds <= longestSeconds
      ? undefined
      : `must be how long the link is good, from ${MIN_EXPIRY_SECONDS} to ${longestSeconds} seconds`;
  },
  into: (config, address) => ({ ...config, expiresInSeconds: Number(address) }),
});
