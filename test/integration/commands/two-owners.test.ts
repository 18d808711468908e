import { afterEach, beforeEach, expect, it } from 'vitest';
import { firstAttempt, owner } from '../../support/attempts.js';
import { type CommandSide, commandSide } from '../../support/commands.js';

let side: CommandSide;
beforeEach(async () => {
  side = await commandSide();
});
afterEach(() => side.close());

it.each(['at once', 'one after the other'])(
  'two owners of a delivery make one call where nothing protects its receiver: %s',
  async (when) => {
    const work = await firstAttempt(side);
    let calls = 0;
    const run = () => owner(side, () => void calls++).run(work);
    if (when === 'at once') await Promise.all([run(), run()]);
    else for (const _ of [1, 2]) await run();
    expect(calls).toBe(1);
  },
);
