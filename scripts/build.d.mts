/** Compiles src/ into dist/ when that is missing or older. @returns whether it had to */
export function buildIfStale(options?: { readonly root?: string }): Promise<boolean>;
