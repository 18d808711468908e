/** A broken invariant: which one, and what was seen. */
export interface Violation {
  readonly rule: Rule;
  readonly detail: string;
}

/** The invariants, each with what it promises. */
export const RULES = {
  'acknowledged is recorded': 'what a client was told is in the log, and the same key gives the same delivery',
  'all end': 'every delivery that was accepted ends, or shows what it waits for',
  'approval before attempt': 'approvals are decided once, by those who may, and not before their time',
  'attempts as allowed': 'no more attempts on a route than its policy allows, numbered upwards',
  'call for a reason': 'a provider is called for what is due, approved and open, as far as the caller can know',
  'dead letters at last':
    'the next route or a dead letter only when the policy is exhausted or the failure is for good',
  'dependencies first': 'what waits for a delivery goes on when that was delivered, and fails when it never can be',
  'doubts are shown': 'an attempt that was begun has an outcome or is in doubt, however its delivery ended',
  'ended is ended': 'nothing follows in a delivery that has ended but the truth about attempts under way',
  'lease before append': 'an instance stores only what is in partitions it holds a lease for',
  'no loose ends': 'no promise is rejected without anybody to hear it',
  'nothing twice on replay': 'a finished history calls for no command and no provider',
  'one call for each attempt': 'where nothing protects the receiver, an attempt is recorded before its one call',
  'receipts agree': 'recorded outcomes are what the provider has answered, and no acceptance is lost',
  'routes in order': 'attempts are on the route whose turn it is, and fallback goes to the next',
  'same key': 'all calls of a leg carry one key, until a person asks for it again',
  'steady work': 'an instance waits between tries, and lets go of what has ended',
  'streams fold': 'every stream can be folded from its beginning',
  'table is as the log': 'the rows of open deliveries are what the log says, and there are no others',
  'times are kept': 'timers fire once, not before their time by the database’s clock and soon after it',
  'work is shared': 'all partitions are held, evenly',
} as const;
export type Rule = keyof typeof RULES;

interface Line {
  readonly atMs: number;
  readonly text: string;
}

/** What has happened, for people, and a hash of it, for comparing two runs. */
export class History {
  readonly #lines: Line[] = [];
  #low = 0x811c9dc5;
  #high = 0x1b873593;

  add(atMs: number, text: string): void {
    this.#lines.push({ atMs, text });
    this.mix(Math.round(atMs * 1_000));
    for (let index = 0; index < text.length; index++) this.mix(text.charCodeAt(index));
  }

  /** Something too frequent to be told, but that must be the same when the seed is. */
  mix(value: number): void {
    this.#low = Math.imul(this.#low ^ value, 16_777_619);
    this.#high = Math.imul(this.#high ^ (value + (this.#low >>> 7)), 0x85ebca6b);
  }

  get hash(): string {
    return [this.#high, this.#low].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
  }

  lines(): string[] {
    return this.#lines.map(({ atMs, text }) => `${(atMs / 1_000).toFixed(3).padStart(9)} s  ${text}`);
  }
}
