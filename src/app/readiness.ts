import { Readiness } from '../http/readiness.js';
import type { Engine } from '../sagas/engine.js';
import type { Infrastructure } from './infrastructure.js';

/** What `/ready` asks, and what it warns of. */
export function readiness(infrastructure: Infrastructure, engine: Engine): Readiness {
  const { store, contents, pool, reads, auditHealth, publications } = infrastructure;
  const checks = {
    log: async () => void (await store.head()),
    // What pg says names its server, and anybody may ask whether we are ready.
    postgres: () =>
      pool.query('SELECT 1').then(
        () => undefined,
        () => 'does not answer',
      ),
    engine: () => {
      const { state } = engine.status();
      return state === 'running' ? undefined : state;
    },
    projections: () => reads.problem(),
    audit: () => auditHealth.problem,
  };
  const warnings = () => [
    ...publications.failing.map(
      ({ name, since }) => `audit: no checkpoint could be published to ${name} since ${since}`,
    ),
    ...(contents.problem === undefined ? [] : [`content: nothing over 32 KiB can be taken: ${contents.problem}`]),
  ];
  return new Readiness(checks, warnings);
}
