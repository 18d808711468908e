import { CustomScalar, Scalar } from '@nestjs/graphql';
import { Kind, type ValueNode, valueFromASTUntyped } from 'graphql';
import type { Json } from '../domain/vocabulary.js';

const RFC3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;

function instant(value: unknown): Date {
  const date = typeof value === 'string' && RFC3339.test(value) ? new Date(value) : undefined;
  // Date rolls 2026-02-30 over into March; a date that does not exist must not become another one.
  const isReal =
    date && !Number.isNaN(date.getTime()) && Number((value as string).slice(8, 10)) <= daysIn(value as string);
  if (!isReal) throw new TypeError('must be a date and time with offset (RFC 3339), such as 2026-11-21T08:30:00Z');
  return date;
}

const daysIn = (text: string): number =>
  new Date(Date.UTC(Number(text.slice(0, 4)), Number(text.slice(5, 7)), 0)).getUTCDate();

@Scalar('DateTime')
export class DateTimeScalar implements CustomScalar<string, Date> {
  description = 'RFC 3339 date and time with offset';
  parseValue = instant;
  parseLiteral(node: ValueNode): Date {
    return instant(node.kind === Kind.STRING ? node.value : undefined);
  }
  serialize(value: unknown): string {
    return value instanceof Date ? value.toISOString() : String(value);
  }
}

@Scalar('JSON')
export class JsonScalar implements CustomScalar<Json, Json> {
  description = 'any JSON value';
  parseValue(value: unknown): Json {
    return value as Json;
  }
  parseLiteral(node: ValueNode, variables?: Record<string, unknown> | null): Json {
    return valueFromASTUntyped(node, variables ?? undefined) as Json;
  }
  serialize(value: unknown): Json {
    return value as Json;
  }
}

function position(value: unknown): bigint {
  if (typeof value === 'string' && /^\d{1,19}$/.test(value)) return BigInt(value);
  throw new TypeError('must be a log position: a whole number as text');
}

@Scalar('Position')
export class PositionScalar implements CustomScalar<string, bigint> {
  description = 'a log position as a decimal string';
  parseValue = position;
  parseLiteral(node: ValueNode): bigint {
    return position(node.kind === Kind.STRING ? node.value : undefined);
  }
  serialize(value: unknown): string {
    return String(value);
  }
}
