/** Undefined when the part is up, else what is wrong with it, in words for an operator. */
export type Check = () => Promise<string | undefined> | string | undefined;

const CHECK_TIMEOUT_MS = 2_000;

/** Whether every part that deliveries need is up, and which is not. */
export class Readiness {
  readonly #checks: Readonly<Record<string, Check>>;
  readonly #warnings: () => readonly string[];

  /** @param warnings what somebody has to see to although deliveries go on */
  constructor(checks: Readonly<Record<string, Check>>, warnings: () => readonly string[] = () => []) {
    this.#checks = checks;
    this.#warnings = warnings;
  }

  async check(): Promise<{ ready: boolean; parts: Record<string, string>; warnings: readonly string[] }> {
    const parts = Object.fromEntries(
      await Promise.all(
        Object.entries(this.#checks).map(async ([name, check]) => [name, await problemOf(check)] as const),
      ),
    );
    const warnings = this.#warnings();
    return { ready: Object.values(parts).every((answer) => answer === 'up'), parts, warnings };
  }
}

async function problemOf(check: Check): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const tooSlow = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve('does not answer'), CHECK_TIMEOUT_MS);
  });
  try {
    return (await Promise.race([check(), tooSlow])) ?? 'up';
  } catch (error) {
    return (error as Error).message;
  } finally {
    clearTimeout(timer);
  }
}
