export function verifyBundle(
  lines: AsyncIterable<string> | Iterable<string>,
  trusted?: string[],
): Promise<{ ok: boolean; entries: number; firstBadIndex: number | null; problem: string | null; keys?: string[] }>;
