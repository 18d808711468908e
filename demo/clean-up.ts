/** Closes what a script has opened, in reverse order and once, at its end or at Ctrl-C. */
export class CleanUp {
  readonly #closings: (() => Promise<unknown>)[] = [];
  #closing: Promise<void> | undefined;

  constructor() {
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.once(signal, async () => {
        process.stderr.write('\nInterrupted: stopping everything and removing its data.\n');
        await this.close();
        process.exit(130);
      });
  }

  /** True from the moment something asked for the end: what fails from then on fails because of it. */
  get isClosing(): boolean {
    return this.#closing !== undefined;
  }

  async opened<Thing>(opening: Promise<Thing>, close: (thing: Thing) => Promise<unknown>): Promise<Thing> {
    const thing = await opening;
    this.#closings.push(() => close(thing));
    return thing;
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      for (const close of this.#closings.reverse()) await close();
    })();
    return this.#closing;
  }
}
