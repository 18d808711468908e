import { fairWeather, type Weather, worse } from './network.js';

export type Service = 'log' | 'database';

interface Active {
  readonly of: Service;
  /** Only this instance's connection; everybody's when undefined. */
  readonly instance: number | undefined;
  readonly weather: Weather;
}

/** All that is wrong with the connections at a moment. */
export class Climate {
  readonly #active = new Set<Active>();

  /** @returns ends it */
  begin(active: Active): () => void {
    this.#active.add(active);
    return () => this.#active.delete(active);
  }

  of(service: Service, instance: number): Weather {
    let weather = fair;
    for (const active of this.#active)
      if (active.of === service && (active.instance ?? instance) === instance) weather = worse(weather, active.weather);
    return weather;
  }

  clear(): void {
    this.#active.clear();
  }
}

const fair = fairWeather();
