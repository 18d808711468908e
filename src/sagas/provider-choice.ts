/** How one of several providers of a channel is preferred; from the instance's configuration. */
export interface Preference {
  readonly name: string;
  /** 1 before 2. Default 1. */
  readonly priority?: number;
  /** Shares those that are alike in everything else: 3 gets three times as many as 1. Default 1; 0 gets none. */
  readonly weight?: number;
  /** Of one message, in any unit; the cheaper first. Default 0. */
  readonly cost?: number;
  /** Those of the instance's own region come first among equals in priority. */
  readonly region?: string;
}

/** Why one cannot be used for now. */
export type Obstacle = 'tried' | 'circuit open' | 'asked to wait' | 'limit reached';

export interface ProviderChoice<Provider> {
  readonly provider: Provider;
  /** For people: `priority`, `weight`, …; then who was passed over and why. */
  readonly reason: string;
}

/**
 * Priority first, then the region, then the cost; the weights decide among what is left.
 *
 * @param obstacle why a provider is passed over; undefined when it can be used
 * @param random from 0 (inclusive) to 1 (exclusive)
 * @returns undefined when none can be used
 */
export function chooseProvider<Provider extends Preference>(
  providers: readonly Provider[],
  obstacle: (provider: Provider) => Obstacle | undefined,
  { region, random }: { readonly region: string | undefined; readonly random: number },
): ProviderChoice<Provider> | undefined {
  const passed: string[] = [];
  let left = providers.filter((provider) => {
    const why = obstacle(provider);
    if (why) passed.push(`${provider.name}: ${why}`);
    return !why;
  });
  if (left.length === 0) return undefined;
  let by = left.length === 1 ? 'the only one' : 'weight';
  const rank = (name: string, of: (provider: Provider) => number) => {
    const least = Math.min(...left.map(of));
    const best = left.filter((provider) => of(provider) === least);
    if (best.length === 1 && left.length > 1) by = name;
    left = best;
  };
  rank('priority', ({ priority = 1 }) => priority);
  rank('region', (provider) => (region !== undefined && provider.region === region ? 0 : 1));
  rank('cost', ({ cost = 0 }) => cost);
  const provider = byWeight(left, random);
  return { provider, reason: passed.length === 0 ? by : `${by}; ${passed.join(', ')}` };
}

function byWeight<Provider extends Preference>(providers: readonly Provider[], random: number): Provider {
  const weights = providers.map(({ weight = 1 }) => weight);
  let at = random * weights.reduce((sum, weight) => sum + weight, 0);
  const index = weights.findIndex((weight) => {
    at -= weight;
    return at < 0;
  });
  // All have weight 0: the first one.
  return providers[Math.max(index, 0)] as Provider;
}
