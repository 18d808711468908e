import type { Instant } from './vocabulary.js';

/** Of the second that was written last: everything before its milliseconds. */
let second = Number.NaN;
let upToSecond = '';

/**
 * Each step of a delivery writes the time, mostly within the same second as the step before; only milliseconds are written anew
 * then, which takes a tenth of what a Date takes.
 *
 * @param ms Unix milliseconds, whole ones
 * @throws RangeError beyond what a Date can say
 */
export function instantOf(ms: number): Instant {
  const whole = Math.floor(ms / 1_000);
  if (whole !== second) {
    upToSecond = new Date(whole * 1_000).toISOString().slice(0, -'000Z'.length);
    second = whole;
  }
  const rest = ms - whole * 1_000;
  return `${upToSecond}${rest < 10 ? '00' : rest < 100 ? '0' : ''}${rest}Z`;
}

export const instantNow = (): Instant => instantOf(Date.now());

export const DAY_MS = 86_400_000;

/** The day that was written last, in days since 1970. */
let writtenDay = Number.NaN;
let writtenText = '';

/** The day in UTC of some Unix milliseconds, `YYYY-MM-DD`. Whoever asks mostly asks for the same one. @throws RangeError */
export function dayOf(ms: number): string {
  const number = Math.floor(ms / DAY_MS);
  if (number !== writtenDay) {
    writtenText = new Date(ms).toISOString().slice(0, -'T00:00:00.000Z'.length);
    writtenDay = number;
  }
  return writtenText;
}

/** Of the day that was read last: its year, month and day as one number, and when it begins. */
let day = Number.NaN;
let dayMs = 0;

/** Unix milliseconds: the opposite of `instantOf`, a few times as fast as Date.parse, and the same for every other text. */
export function millisOf(instant: Instant): number {
  const clock = clockOf(instant);
  const date = digits(instant, 0, 4) * 10_000 + digits(instant, 5, 7) * 100 + digits(instant, 8, 10);
  if (clock < 0 || date < 0) return Date.parse(instant);
  if (date !== day) {
    dayMs = Date.parse(`${instant.slice(0, 10)}T00:00:00.000Z`);
    day = date;
  }
  return dayMs + clock;
}

const DASH = 45;
const COLON = 58;

/** Milliseconds since midnight; less than 0 when it is not exactly as `instantOf` writes it. */
function clockOf(text: string): number {
  const at = (index: number) => text.charCodeAt(index);
  const isInForm = text.length === 24 && at(4) === DASH && at(7) === DASH && text[10] === 'T' && text[23] === 'Z';
  if (!isInForm || at(13) !== COLON || at(16) !== COLON || text[19] !== '.') return -1;
  const [hours, minutes, seconds] = [digits(text, 11, 13), digits(text, 14, 16), digits(text, 17, 19)];
  if (hours > 23 || minutes > 59 || seconds > 59) return -1;
  return hours * 3_600_000 + minutes * 60_000 + seconds * 1_000 + digits(text, 20, 23);
}

/** Whatever else it is added to, the sum is less than 0. */
const NO_NUMBER = -(2 ** 40);

function digits(text: string, from: number, to: number): number {
  let number = 0;
  for (let index = from; index < to; index++) {
    const digit = text.charCodeAt(index) - 48;
    // Not NaN either, which every comparison would let pass.
    if (!(digit >= 0 && digit <= 9)) return NO_NUMBER;
    number = number * 10 + digit;
  }
  return number;
}
