import { z } from 'zod';

/** Headers that a configuration gives to requests. */

/** RFC 9110 tokens without the dot, which separates the names in the paths of problems and secrets. */
const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+^_`|~-]{1,100}$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]{0,4096}$/;
/** Headers that say what the connection and the signature are; one from the configuration could only make them lie. */
const OWN_HEADER =
  /^(webhook-.*|host|content-length|connection|keep-alive|transfer-encoding|upgrade|te|trailer|expect|proxy-.*)$/i;

export const headersSchema = z.record(z.string(), z.string()).superRefine((all, context) => {
  for (const [name, value] of Object.entries(all)) {
    const problem = headerProblem(name, value);
    if (problem) context.addIssue({ code: 'custom', path: [name], message: problem });
  }
});

/** Never to be quoted. */
export const secretHeaderValues = (headers: Readonly<Record<string, string>> = {}): string[] => Object.values(headers);

function headerProblem(name: string, value: string): string | undefined {
  if (!HEADER_NAME.test(name)) return 'is not a header name';
  if (OWN_HEADER.test(name)) return 'is set by Waybill';
  return HEADER_VALUE.test(value) ? undefined : 'has characters that a header cannot carry';
}
