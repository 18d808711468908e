/** What an HTTP API says in the JSON of its answer. */

/** Undefined when it is no JSON, or null. */
export function parsed(body: string): unknown {
  try {
    return JSON.parse(body) ?? undefined;
  } catch {
    return undefined;
  }
}

/** Why, if the answer says so in the usual places (RFC 9457 first). Anything else is left unread. */
export function explanation(body: string): string {
  const json = parsed(body);
  if (typeof json !== 'object' || json === null) return '';
  const { detail, title, message, error } = json as Record<string, unknown>;
  return [detail, title, message, error].find((text) => typeof text === 'string')?.slice(0, 300) ?? '';
}
