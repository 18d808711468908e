/** What must be so for the demo to have worked. All are looked at; the ones that fail are told together at the end. */
export class Checks {
  readonly failures: string[] = [];
  #made = 0;

  get made(): number {
    return this.#made;
  }

  /** @param otherwise what is to be said when it is not so */
  that(isSo: boolean, otherwise: string): void {
    this.#made += 1;
    if (!isSo) this.failures.push(otherwise);
  }

  /** @param what a name for the value: "status of the report" */
  equal(actual: unknown, expected: unknown, what: string): void {
    this.that(actual === expected, `${what}: ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`);
  }
}
