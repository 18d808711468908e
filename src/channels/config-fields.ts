import { z } from 'zod';
import type { Json } from '../domain/vocabulary.js';

/** The fields of a channel's configuration as people read about them: in the documentation, and in checks of it. */

export interface ConfigField {
  /** Dotted, list items as `[]`, keys that people choose as `*`. */
  readonly path: string;
  /** `string`, `integer`, `boolean`, `object`, `array`; of several, all of them. */
  readonly type: string;
  readonly description: string;
  readonly isRequired: boolean;
  /** Never shown again once stored. */
  readonly isSecret: boolean;
  /** What an absent field means, where the description alone does not say it. */
  readonly default?: Json;
  /** All values there are, where they can be counted. */
  readonly values?: readonly Json[];
}

/** What zod writes of a schema; `secret` is ours, put there by `.meta({ secret: true })`. */
interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly default?: Json;
  readonly secret?: boolean;
  readonly const?: Json;
  readonly enum?: readonly Json[];
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Node | boolean;
  readonly items?: Node;
  readonly anyOf?: readonly Node[];
  readonly oneOf?: readonly Node[];
}

/** In the order of the schema, each object before what is in it. */
export function fieldsOf(schema: z.ZodType): ConfigField[] {
  return below(z.toJSONSchema(schema, { unrepresentable: 'any', io: 'input' }) as Node, '');
}

function below(node: Node, path: string): ConfigField[] {
  const own = Object.entries(node.properties ?? {}).flatMap(([name, field]) =>
    fieldAndBelow(field, path === '' ? name : `${path}.${name}`, node.required?.includes(name) ?? false),
  );
  const chosen = typeof node.additionalProperties === 'object' ? below(node.additionalProperties, `${path}.*`) : [];
  const items = node.items ? below(node.items, `${path}[]`) : [];
  return merged([...own, ...chosen, ...items, ...alternatives(node).flatMap((each) => below(each, path))]);
}

function fieldAndBelow(node: Node, path: string, isRequired: boolean): ConfigField[] {
  const values = node.enum ?? (node.const === undefined ? undefined : [node.const]);
  const types = node.type ? [node.type] : [...new Set(alternatives(node).flatMap(({ type }) => type ?? []))];
  const field: ConfigField = {
    path,
    type: types.join(' or ') || 'any',
    description: node.description ?? '',
    isRequired,
    isSecret: node.secret === true,
    ...(node.default !== undefined && { default: node.default }),
    ...(values && { values }),
  };
  return [field, ...below(node, path)];
}

const alternatives = ({ anyOf = [], oneOf = [] }: Node): readonly Node[] => [...anyOf, ...oneOf];

/** A field that several alternatives have is one field, required if all the alternatives with it require it. */
function merged(fields: readonly ConfigField[]): ConfigField[] {
  const byPath = new Map<string, ConfigField>();
  for (const field of fields) {
    const known = byPath.get(field.path);
    if (!known) byPath.set(field.path, field);
    else if (known.values && field.values) {
      byPath.set(field.path, { ...known, values: [...new Set([...known.values, ...field.values])] });
    }
  }
  return [...byPath.values()];
}
