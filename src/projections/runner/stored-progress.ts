import type { Projection } from '../projection.js';
import type { Look } from './lease.js';
import type { Rebuild } from './member.js';
import type { ProjectionProgress, ProjectionState } from './runner.js';

interface Known {
  position: bigint;
  health: Look['health'][number] | undefined;
  rebuild: Rebuild | undefined;
}

/** How far the read models are, as an instance knows it that does not write them: from Postgres, and from what the writer says. */
export class StoredProgress {
  readonly #projections: readonly Projection[];
  readonly #known: ReadonlyMap<string, Known>;
  /** Where the writer has said they are, since it was asked for. */
  readonly #moved = new Set<string>();
  #error: string | undefined;

  constructor(projections: readonly Projection[]) {
    this.#projections = projections;
    this.#known = new Map(
      projections.map(({ name }) => [name, { position: 0n, health: undefined, rebuild: undefined }]),
    );
  }

  /** To be called before a look is asked for: what is heard while it is under way is newer than what it finds. */
  looking(): void {
    this.#moved.clear();
  }

  /** @returns what is new of rebuilds */
  found({ health, checkpoints, rebuilds, newer, isHeld }: Look): Rebuild[] {
    this.#error = newer.length > 0 && !isHeld ? `${newer[0]} was made by a newer version of this program` : undefined;
    for (const [name, known] of this.#known) {
      if (!this.#moved.has(name)) known.position = checkpoints.get(name) ?? 0n;
      known.health = health.find((one) => one.name === name);
    }
    return rebuilds.filter((rebuild) => this.rebuilt(rebuild));
  }

  /** Nothing is known of how things are now. */
  failed(error: Error): void {
    this.#error = error.message;
  }

  moved(names: readonly string[], position: bigint): void {
    for (const name of names) {
      const known = this.#known.get(name);
      if (!known || known.position >= position) continue;
      known.position = position;
      this.#moved.add(name);
    }
  }

  /** @returns whether that is news */
  rebuilt(rebuild: Rebuild): boolean {
    const known = this.#known.get(rebuild.name);
    if (!known) return false;
    const isNews = !isSame(known.rebuild, rebuild);
    known.rebuild = rebuild;
    return isNews;
  }

  progress(): ProjectionProgress[] {
    let newest = 0n;
    for (const { position } of this.#known.values()) if (position > newest) newest = position;
    return this.#projections.map(({ name, version }) => {
      const { position, health, rebuild } = this.#known.get(name) as Known;
      const isBehind = position < newest;
      return {
        ...{ name, version, position, rebuild, isBehind },
        parked: health?.parked ?? 0,
        state: this.#stateOf(health?.state as ProjectionState | undefined, rebuild, isBehind),
        lastError: this.#error ?? health?.lastError,
        progressAt: health?.progressAt,
      };
    });
  }

  #stateOf(said: ProjectionState | undefined, rebuild: Rebuild | undefined, isBehind: boolean): ProjectionState {
    if (this.#error !== undefined || said === 'failing') return 'failing';
    if (rebuild?.state === 'running') return 'rebuilding';
    return isBehind || said !== 'running' ? 'catching-up' : 'running';
  }
}

const isSame = (a: Rebuild | undefined, b: Rebuild): boolean =>
  a?.id === b.id && a.state === b.state && a.phase === b.phase && a.processed === b.processed && a.total === b.total;
