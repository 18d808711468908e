import { SingleBar } from 'cli-progress';

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
}

/** Without a terminal a line says how far it is, this often. */
const LINE_MS = 5_000;

/** How far a rebuild is: a bar on a terminal, now and then a line elsewhere. Goes to stderr; the result to stdout. */
export class RebuildDisplay {
  readonly #bar: SingleBar | undefined;
  readonly #since = performance.now();
  readonly #first: number;
  #saidAt = performance.now();
  #phase = '';

  constructor(begun: ShownRebuild) {
    this.#first = begun.processed;
    if (process.stderr.isTTY)
      this.#bar = new SingleBar({
        format: `${begun.name} {bar} {percentage}% {value}/{total} events, {rate}/s, {left} left, {phase}`,
        clearOnComplete: true,
      });
    this.#bar?.start(Math.max(begun.total, 1), begun.processed, { rate: '-', left: '-', phase: begun.phase });
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

  end({ name, kind, state, total, comparison }: ShownRebuild): void {
    this.#bar?.stop();
    if (state !== 'done') return;
    const found = comparison === null ? '' : `; the rows were ${comparison === 'equal' ? 'the same' : 'different'}`;
    const what = { rebuild: 'rebuilt', verify: 'compared', rollback: 'rolled back' }[kind] ?? kind;
    process.stdout.write(`${name} is ${what} from ${total} events${found}.\n`);
  }
}
