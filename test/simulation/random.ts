/** Chance that can be had again: the same seed and name give the same numbers (sfc32, seeded by FNV-1a). */
export class Random {
  readonly #state = new Uint32Array(4);

  /** @param name tells generators of one seed apart, so that what one of them is asked moves none of the others */
  constructor(seed: number, name: string) {
    let hash = 2_166_136_261 ^ seed;
    for (const text of [String(seed), name])
      for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 16_777_619);
    this.#state.set([hash, hash ^ 0x9e3779b9, Math.imul(hash, 0x85ebca6b), 1]);
    for (let round = 0; round < 12; round++) this.#bits();
  }

  /** From 0 (inclusive) to 1 (exclusive). */
  next(): number {
    return this.#bits() / 4_294_967_296;
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** A whole number, both ends included. */
  int(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1));
  }

  between(least: number, most: number): number {
    return least + this.next() * (most - least);
  }

  pick<Value>(values: readonly Value[]): Value {
    if (values.length === 0) throw new Error('there is nothing to pick from');
    return values[this.int(0, values.length - 1)] as Value;
  }

  /** One of the names, as often as its weight says. */
  weighted<Name extends string>(weights: Readonly<Record<Name, number>>): Name {
    const entries = Object.entries(weights) as [Name, number][];
    let left = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [name, weight] of entries) {
      left -= weight;
      if (left < 0) return name;
    }
    return (entries[0] as [Name, number])[0];
  }

  /** A UUID version 4 (RFC 9562 section 5.4). */
  uuid(): string {
    const hex = Array.from({ length: 4 }, () => this.#bits().toString(16).padStart(8, '0')).join('');
    const variant = ((Number.parseInt(hex[16] as string, 16) & 3) | 8).toString(16);
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
  }

  #bits(): number {
    const [a, b, c, count] = this.#state as unknown as [number, number, number, number];
    const sum = (a + b + count) | 0;
    this.#state[3] = count + 1;
    this.#state[0] = b ^ (b >>> 9);
    this.#state[1] = (c + (c << 3)) | 0;
    this.#state[2] = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
}
