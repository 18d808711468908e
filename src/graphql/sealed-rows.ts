import type { Failure, JsonObject } from '../domain/vocabulary.js';
import type { AttemptRow } from '../projections/attempts.js';
import type { DeliveryRow } from '../projections/deliveries.js';
import type { DestinationRow } from '../projections/destinations.js';
import type { InboxRow } from '../projections/inbox.js';
import type { SuppressionRow } from '../projections/suppressions.js';

/** Opens what read models hold sealed. */
export interface Tokens {
  isToken(text: string): boolean;
  /** What each stands for, in order; undefined where the key was destroyed. */
  open(tokens: readonly string[]): Promise<(JsonObject | undefined)[]>;
}

const ERASED = '[erased]';

/** Rows as the API shows them: read models have no keys, so what is personal or secret in them is opened on the way out. */
export class SealedRows {
  readonly #tokens: Tokens;

  constructor(tokens: Tokens) {
    this.#tokens = tokens;
  }

  async deliveries(rows: readonly DeliveryRow[]): Promise<DeliveryRow[]> {
    const messages = rows.flatMap(({ legs }) => legs.map(({ failure }) => failure?.message));
    const opened = await this.#fields(messages);
    if (!opened) return [...rows];
    return rows.map((row) => ({
      ...row,
      legs: row.legs.map((leg) => (leg.failure ? { ...leg, failure: withMessage(leg.failure, opened) } : leg)),
    }));
  }

  async attempts(rows: readonly AttemptRow[][]): Promise<AttemptRow[][]> {
    const opened = await this.#fields(rows.flat().flatMap(({ error, warning }) => [error?.message, warning]));
    if (!opened) return [...rows];
    return rows.map((ofDelivery) =>
      ofDelivery.map((row) => ({
        ...row,
        error: row.error && withMessage(row.error, opened),
        warning: row.warning === null ? null : textOf(row.warning, 'warning', opened),
      })),
    );
  }

  async destinations<Row extends Pick<DestinationRow, 'config'>>(rows: readonly Row[]): Promise<Row[]> {
    const opened = await this.#fields(rows.map(({ config }) => config.sealed as string | undefined));
    if (!opened) return [...rows];
    return rows.map((row) => {
      const token = row.config.sealed;
      if (typeof token !== 'string' || !opened.has(token)) return row;
      return { ...row, config: (opened.get(token)?.config ?? {}) as JsonObject };
    });
  }

  async suppressions(rows: readonly SuppressionRow[]): Promise<SuppressionRow[]> {
    const opened = await this.#fields(rows.map(({ address }) => address));
    return opened ? rows.map((row) => ({ ...row, address: textOf(row.address, 'address', opened) })) : [...rows];
  }

  async inbox(rows: readonly InboxRow[]): Promise<InboxRow[]> {
    const opened = await this.#fields(rows.map(({ content }) => content.sealed as string | undefined));
    if (!opened) return [...rows];
    return rows.map((row) => ({
      ...row,
      content: (opened.get(String(row.content.sealed))?.content ?? { text: ERASED }) as JsonObject,
    }));
  }

  /** Undefined when there is nothing to open. */
  async #fields(texts: readonly (string | null | undefined)[]): Promise<Opened | undefined> {
    const tokens = texts.filter((text): text is string => typeof text === 'string' && this.#tokens.isToken(text));
    if (tokens.length === 0) return undefined;
    const opened = await this.#tokens.open(tokens);
    return new Map(tokens.map((token, index) => [token, opened[index]]));
  }
}

type Opened = ReadonlyMap<string, JsonObject | undefined>;

const withMessage = (failure: Failure, opened: Opened): Failure => ({
  ...failure,
  message: textOf(failure.message, 'message', opened),
});

const textOf = (text: string, field: string, opened: Opened): string =>
  opened.has(text) ? String(opened.get(text)?.[field] ?? ERASED) : text;
