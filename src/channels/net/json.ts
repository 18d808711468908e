/** JSON from outside: nothing of it is known, and most of it may not even be there. */

/** Undefined when it is no JSON, or null. */
export function parsed(text: string): unknown {
  try {
    return JSON.parse(text) ?? undefined;
  } catch {
    return undefined;
  }
}

/** A JSON object; an empty one when it is anything else. */
export function objectIn(text: string): Readonly<Record<string, unknown>> {
  const value = parsed(text);
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

/** The value at a dotted path. */
export const at = (value: unknown, path: string): unknown =>
  path
    .split('.')
    .reduce<unknown>(
      (inner, key) =>
        typeof inner === 'object' && inner !== null && Object.hasOwn(inner, key)
          ? (inner as Record<string, unknown>)[key]
          : undefined,
      value,
    );

/** Why, if an answer says so in the usual places (RFC 9457 first). Anything else is left unread. */
export function explanation(body: string): string {
  const { detail, title, message, error } = objectIn(body);
  return [detail, title, message, error].find((text) => typeof text === 'string')?.slice(0, 300) ?? '';
}
