import { type Document, isMap, isScalar, isSeq, LineCounter, parseDocument, parse as parseYaml, Scalar } from 'yaml';
import type { FieldProblem } from '../domain/vocabulary.js';

/**
 * YAML with `${NAME}` and `${NAME:-default}`, as in the configuration files of OpenTelemetry and Compose.
 *
 * Values are put in after parsing, so whatever a variable holds can never change the structure of the file. What is
 * written without quotes is then read as YAML reads it: `port: ${SMTP_PORT:-587}` is a number and
 * `password: "${SMTP_PASSWORD}"` is text even when it is all digits. `$${NAME}` stands for a literal `${NAME}`. Within
 * `{ … }` and `[ … ]` YAML reads braces as its own, so there a reference needs quotes.
 * Source: https://opentelemetry.io/docs/specs/otel/configuration/data-model/#environment-variable-substitution
 */
export function parseConfigFile(
  text: string,
  env: Readonly<Record<string, string | undefined>>,
): { value: Record<string, unknown>; problems: FieldProblem[] } {
  const lines = new LineCounter();
  // Pretty errors quote the lines around a mistake, and a line may hold a password.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problems = document.errors.map(({ message, pos }) => ({
    path: `WAYBILL_CONFIG line ${lines.linePos(pos[0]).line}`,
    problem: message.split('\n')[0] ?? 'is not YAML',
  }));
  if (problems.length > 0) return { value: {}, problems };
  if (document.contents !== null && !isMap(document.contents)) {
    if (isScalar(document.contents) && document.contents.value === null) return { value: {}, problems };
    return { value: {}, problems: [{ path: 'WAYBILL_CONFIG', problem: 'must hold settings by name (key: value)' }] };
  }

  substitute(document.contents, []);
  if (problems.length > 0) return { value: {}, problems };
  return toValue(document);

  function substitute(node: unknown, path: readonly unknown[]): void {
    if (isMap(node)) for (const { key, value } of node.items) substitute(value, [...path, key]);
    if (isSeq(node)) for (const [index, item] of node.items.entries()) substitute(item, [...path, index]);
    if (!isScalar(node) || typeof node.value !== 'string' || !node.value.includes('${')) return;

    const filled = node.value.replace(REFERENCE, (reference, escaped, name, fallback) => {
      if (escaped) return reference.slice(1);
      const value = env[name];
      if (value !== undefined && (value !== '' || fallback === undefined)) return value;
      if (fallback !== undefined) return fallback;
      problems.push({ path: path.join('.'), problem: `needs the environment variable ${name}, which is not set` });
      return '';
    });
    const malformed = /\$\{/.test(node.value.replace(REFERENCE, ''));
    if (malformed)
      problems.push({ path: path.join('.'), problem: `has a \${ that is not \${NAME} or \${NAME:-default}` });
    node.value = node.type === Scalar.PLAIN ? plainValue(filled) : filled;
  }
}

const REFERENCE = /(\$)?\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}/g;

/** Reads a number or a boolean only where nothing gets lost: `007` and a key of 40 digits stay text. */
function plainValue(text: string): unknown {
  if (!/^(true|false|-?\d+(\.\d+)?)$/.test(text)) return text;
  const value: unknown = parseYaml(text);
  return String(value) === text ? value : text;
}

function toValue(document: Document): { value: Record<string, unknown>; problems: FieldProblem[] } {
  try {
    return { value: (document.toJS({ maxAliasCount: 100 }) ?? {}) as Record<string, unknown>, problems: [] };
  } catch (error) {
    return { value: {}, problems: [{ path: 'WAYBILL_CONFIG', problem: (error as Error).message }] };
  }
}
