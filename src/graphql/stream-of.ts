/**
 * Each item of each step of a source, turned into what a subscription sends. Not an async generator, because the end of
 * one waits for its next item: a subscriber that leaves must be let go at once, though nothing may ever come again.
 */
export function streamOf<Item, Sent>(
  source: AsyncIterator<readonly Item[]>,
  send: (items: readonly Item[]) => Promise<readonly Sent[]> | readonly Sent[],
): AsyncIterableIterator<Sent> {
  const ready: Sent[] = [];
  return {
    async next() {
      while (ready.length === 0) {
        const step = await source.next();
        if (step.done) return { done: true, value: undefined };
        ready.push(...(await send(step.value)));
      }
      return { done: false, value: ready.shift() as Sent };
    },
    async return() {
      await source.return?.();
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
