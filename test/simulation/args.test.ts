import { describe, expect, it } from 'vitest';
import { DEFAULT_STEPS, parse, UsageError } from './args.js';

const defaults = {
  ...{ seed: 1, seeds: 1, steps: DEFAULT_STEPS, keepGoing: false },
  ...{ shrink: true, history: false, json: false },
};

describe('the command line of npm run simulate', () => {
  it('has a default for everything', () => {
    expect(parse([])).toEqual(defaults);
  });

  it('can be told everything', () => {
    const argv = ['--seed', '7', '--seeds', '20000', '--steps', '80', '--keep-going', '--no-shrink', '--json'];
    expect(parse(argv)).toEqual({
      ...{ seed: 7, seeds: 20_000, steps: 80, keepGoing: true },
      ...{ shrink: false, history: false, json: true },
    });
    expect(parse(['--history'])).toEqual({ ...defaults, history: true });
  });

  it('gives its help', () => {
    expect(parse(['--help'])).toBeUndefined();
  });

  it('refuses what makes no sense, and says why', () => {
    for (const argv of [
      ['--seed', 'x'],
      ['--seeds', '0'],
      ['--steps', '1.5'],
      ['--seeds', '-1'],
      ['--sed', '1'],
      ['3'],
    ])
      expect(() => parse(argv)).toThrow(UsageError);
    expect(() => parse(['--steps', '0'])).toThrow('--steps must be a whole number from 1 to 10000, not "0"');
    expect(() => parse(['--history', '--seeds', '2'])).toThrow('--history goes with one seed');
  });
});
