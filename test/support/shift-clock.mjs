/**
 * Loaded into a Waybill (`node --import`), also into its threads: its wall clock jumps by as many milliseconds as the file
 * CLOCK_SHIFT says, as soon as that changes. The monotonic clock goes on, as it does when somebody sets a machine's clock.
 */
import { readFileSync } from 'node:fs';

const Real = Date;
let shiftMs = 0;

class ShiftedDate extends Real {
  /** Dates that Node has made by itself are dates, too. */
  static [Symbol.hasInstance](value) {
    return Object.prototype.toString.call(value) === '[object Date]';
  }

  constructor(...parts) {
    if (parts.length === 0) super(Real.now() + shiftMs);
    else super(...parts);
  }

  static now() {
    return Real.now() + shiftMs;
  }
}
globalThis.Date = ShiftedDate;

setInterval(() => {
  try {
    shiftMs = Number(readFileSync(process.env.CLOCK_SHIFT, 'utf8')) || 0;
  } catch {
    shiftMs = 0;
  }
}, 50).unref();
