import { MultiBar, type SingleBar } from 'cli-progress';

/** A rebuild, as far as it is shown. */
export interface ShownRebuild {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly state: string;
  readonly phase: string;
  readonly comparison: string | null;
  readonly reason: string | null;
  readonly processed: number;
  readonly total: number;
  /** RFC 3339, UTC. */
  readonly startedAt: string;
}

/** Without a terminal a line says how far it is, this often. */
const LINE_MS = 5_000;
const DONE: Readonly<Record<string, string>> = { rebuild: 'rebuilt', verify: 'compared', rollback: 'rolled back' };

/** Bars on a terminal, one below the other. */
export const barsOf = (stream: NodeJS.WriteStream): MultiBar | undefined =>
  stream.isTTY
    ? new MultiBar({
        format: '{name} {bar} {percentage}% {value}/{total} events, {rate}/s, {left} left, {phase}',
        clearOnComplete: true,
        hideCursor: true,
        stream,
      })
    : undefined;

/** How far a rebuild is: a bar on a terminal, now and then a line elsewhere. Goes to stderr; the result to stdout. */
export class RebuildDisplay {
  readonly #bar: SingleBar | undefined;
  readonly #since = performance.now();
  readonly #first: number;
  #saidAt = performance.now();
  #phase = '';

  constructor(begun: ShownRebuild, bars: MultiBar | undefined) {
    this.#first = begun.processed;
    const { name, total, processed, phase } = begun;
    this.#bar = bars?.create(Math.max(total, 1), processed, { name: name.padEnd(12), rate: '-', left: '-', phase });
  }

  show(rebuild: ShownRebuild): void {
    const { name, processed, total, phase, reason } = rebuild;
    const perSecond = ((processed - this.#first) * 1_000) / (performance.now() - this.#since);
    const rate = Math.round(perSecond).toLocaleString('en-US');
    const left = perSecond > 0 ? `${Math.ceil((total - processed) / perSecond)} s` : '-';
    this.#bar?.setTotal(Math.max(total, 1));
    this.#bar?.update(processed, { rate, left, phase: reason ? `${phase}: ${reason}` : phase });
    if (this.#bar || (phase === this.#phase && performance.now() - this.#saidAt < LINE_MS)) return;
    this.#saidAt = performance.now();
    this.#phase = phase;
    process.stderr.write(
      `${name}: ${phase}, ${processed} of ${total} events, ${rate}/s, ${left} left${reason ? ` (${reason})` : ''}\n`,
    );
  }

  end(rebuild: ShownRebuild): void {
    this.show(rebuild);
    this.#bar?.stop();
  }
}

/** What came of it, in a sentence; undefined when it was not carried through. */
export function resultOf({ name, kind, state, total, comparison }: ShownRebuild): string | undefined {
  if (state !== 'done') return undefined;
  const found = comparison === null ? '' : `; the rows were ${comparison === 'equal' ? 'the same' : 'different'}`;
  return `${name} is ${DONE[kind] ?? kind} from ${total} events${found}.`;
}
