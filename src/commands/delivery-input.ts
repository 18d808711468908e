import { Buffer } from 'node:buffer';
import type { Channel, Content, FieldProblem, Json, JsonObject, Priority } from '../domain/vocabulary.js';

/** A request for a delivery as a client makes it; the shape is the public API's. */
export interface RequestDeliveryInput {
  readonly organizationId?: string | null;
  readonly idempotencyKey?: string | null;
  readonly correlationId?: string | null;
  readonly to?: readonly TargetInput[] | null;
  readonly content?: { readonly [Key in keyof Content]?: Content[Key] | null } | null;
  readonly templateId?: string | null;
  readonly personalization?: Json | null;
  readonly priority?: Priority | null;
  readonly scheduledAt?: Date | null;
  readonly expiresAt?: Date | null;
  readonly dependsOn?: readonly string[] | null;
  readonly slaSeconds?: number | null;
  readonly approval?: {
    readonly approvers: readonly string[];
    readonly minimum?: number | null;
    readonly timeoutSeconds?: number | null;
  } | null;
  readonly tags?: readonly string[] | null;
  readonly metadata?: Json | null;
  /** A class of the organization's; default: by tag, else the standard one. */
  readonly retention?: string | null;
}

export interface TargetInput {
  readonly destinationId?: string | null;
  readonly recipientId?: string | null;
  readonly channel?: Channel | null;
  readonly address?: string | null;
  readonly provider?: string | null;
  readonly fallback?: readonly TargetInput[] | null;
}

export interface IntakeLimits {
  /** Decoded size of all attachments of one delivery. */
  readonly maxAttachmentBytes: number;
}

const LIMITS = {
  idempotencyKeyLength: 255,
  correlationIdLength: 255,
  tags: 50,
  tagLength: 100,
  targets: 100,
  routes: 10,
  dependencies: 100,
  approvers: 50,
  approverLength: 255,
  attachments: 20,
  filenameLength: 255,
  subjectLength: 998, // RFC 5322 section 2.1.1
  bodyBytes: 2 * 1024 * 1024,
  dataBytes: 1024 * 1024,
  metadataBytes: 64 * 1024,
  slaSeconds: 365 * 86_400,
  depth: 64,
} as const;

/** Everything about a request that can be judged by looking at it alone; `path` is relative to the request. */
export function inputProblems(input: RequestDeliveryInput, limits: IntakeLimits): FieldProblem[] {
  const problems: FieldProblem[] = [];
  const check = (ok: boolean, path: string, problem: string) => {
    if (!ok) problems.push({ path, problem });
  };
  const length = (text: string | null | undefined, most: number, path: string) =>
    check(
      text === null || text === undefined || (text.length > 0 && text.length <= most),
      path,
      `must have from 1 to ${most} characters`,
    );
  const bytes = (value: Json | null | undefined, most: number, path: string) => {
    if (value === null || value === undefined) return;
    const room = roomFor(value, LIMITS.depth);
    if (room === Number.POSITIVE_INFINITY) check(false, path, `must not be nested deeper than ${LIMITS.depth} levels`);
    else check(room <= most || sizeOf(value) <= most, path, `must not be larger than ${most} bytes`);
  };

  length(input.idempotencyKey, LIMITS.idempotencyKeyLength, 'idempotencyKey');
  check(!input.idempotencyKey?.includes('\u0000'), 'idempotencyKey', 'must not contain the character U+0000');
  length(input.correlationId, LIMITS.correlationIdLength, 'correlationId');
  check(!input.templateId, 'templateId', 'there is no such template');
  bytes(input.metadata, LIMITS.metadataBytes, 'metadata');
  bytes(input.personalization, LIMITS.dataBytes, 'personalization');
  check(
    input.personalization === null || input.personalization === undefined || isObject(input.personalization),
    'personalization',
    'must be an object of values by name',
  );
  const sla = input.slaSeconds;
  check(
    sla === null || sla === undefined || (sla >= 1 && sla <= LIMITS.slaSeconds),
    'slaSeconds',
    `must be from 1 to ${LIMITS.slaSeconds}`,
  );

  const { tags, dependsOn, to, approval, content } = input;
  check((tags?.length ?? 0) <= LIMITS.tags, 'tags', `must not be more than ${LIMITS.tags}`);
  for (const [index, tag] of tags?.entries() ?? []) length(tag, LIMITS.tagLength, `tags.${index}`);
  check((dependsOn?.length ?? 0) <= LIMITS.dependencies, 'dependsOn', `must not be more than ${LIMITS.dependencies}`);
  check(to === null || to === undefined || to.length > 0, 'to', 'must name at least one target, or be left out');
  check((to?.length ?? 0) <= LIMITS.targets, 'to', `must not be more than ${LIMITS.targets} targets`);

  if (approval) {
    const { approvers, minimum, timeoutSeconds } = approval;
    check(approvers.length > 0, 'approval.approvers', 'must name at least one approver');
    check(approvers.length <= LIMITS.approvers, 'approval.approvers', `must not be more than ${LIMITS.approvers}`);
    check(new Set(approvers).size === approvers.length, 'approval.approvers', 'names an approver twice');
    for (const [index, approver] of approvers.entries())
      length(approver, LIMITS.approverLength, `approval.approvers.${index}`);
    check((minimum ?? 1) >= 1, 'approval.minimum', 'must be at least 1');
    check((timeoutSeconds ?? 1) >= 1, 'approval.timeoutSeconds', 'must be at least 1');
  }

  if (content) {
    check(
      (content.subject?.length ?? 0) <= LIMITS.subjectLength,
      'content.subject',
      `must not be longer than ${LIMITS.subjectLength} characters`,
    );
    check(!/[\r\n]/.test(content.subject ?? ''), 'content.subject', 'must be one line');
    check(
      Buffer.byteLength(content.text ?? '') <= LIMITS.bodyBytes,
      'content.text',
      `must not be larger than ${LIMITS.bodyBytes} bytes`,
    );
    check(
      Buffer.byteLength(content.html ?? '') <= LIMITS.bodyBytes,
      'content.html',
      `must not be larger than ${LIMITS.bodyBytes} bytes`,
    );
    bytes(content.data, LIMITS.dataBytes, 'content.data');
    problems.push(...attachmentProblems(content.attachments ?? [], limits));
  }
  return problems;
}

function attachmentProblems(attachments: NonNullable<Content['attachments']>, limits: IntakeLimits): FieldProblem[] {
  const problems: FieldProblem[] = [];
  if (attachments.length > LIMITS.attachments)
    problems.push({ path: 'content.attachments', problem: `must not be more than ${LIMITS.attachments}` });
  let total = 0;
  for (const [index, { filename, contentType, base64 }] of attachments.entries()) {
    const path = `content.attachments.${index}`;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
    if (!/^[^/\\\u0000-\u001f]{1,255}$/.test(filename) || filename === '.' || filename === '..')
      problems.push({ path: `${path}.filename`, problem: 'must be a plain file name of 1 to 255 characters' });
    if (!/^[\w.+-]{1,100}\/[\w.+-]{1,100}(\s*;[^\r\n]{0,200})?$/.test(contentType))
      problems.push({ path: `${path}.contentType`, problem: 'must be a media type such as application/pdf' });
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(base64) || base64.length % 4 !== 0)
      problems.push({ path: `${path}.base64`, problem: 'is not base64' });
    total += (base64.length / 4) * 3 - (/=*$/.exec(base64)?.[0].length ?? 0);
  }
  if (total > limits.maxAttachmentBytes)
    problems.push({
      path: 'content.attachments',
      problem: `must not be larger than ${limits.maxAttachmentBytes} bytes together`,
    });
  return problems;
}

/** The routes of one target, in fallback order, with the path of each for error messages. */
export function routesOf(target: TargetInput, path: string): { readonly target: TargetInput; readonly path: string }[] {
  return [
    { target, path },
    ...(target.fallback ?? []).flatMap((fallback, index) => routesOf(fallback, `${path}.fallback.${index}`)),
  ];
}

export const MAX_ROUTES = LIMITS.routes;

/** Of one unit of a string in JSON: an escape. */
const LONGEST_UNIT = 6;
const LONGEST_NUMBER = 25;

/** No less than the bytes of its JSON text, found out without making that; Infinity when it is nested deeper than this. */
function roomFor(value: Json, levels: number): number {
  if (typeof value === 'string') return value.length * LONGEST_UNIT + 2;
  if (typeof value !== 'object' || value === null) return LONGEST_NUMBER;
  if (levels === 0) return Number.POSITIVE_INFINITY;
  let room = 2;
  if (Array.isArray(value)) for (const inner of value) room += 1 + roomFor(inner, levels - 1);
  else
    for (const key in value)
      room += key.length * LONGEST_UNIT + 4 + roomFor((value as JsonObject)[key] as Json, levels - 1);
  return room;
}

const sizeOf = (value: Json): number => Buffer.byteLength(JSON.stringify(value));
export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** GraphQL gives null for what a client leaves empty; in commands and events, what is not there is left out. */
export function present<T extends object>(value: T): Partial<T> {
  const left: Partial<T> = {};
  for (const key in value) if (value[key] !== null && value[key] !== undefined) left[key] = value[key];
  return left;
}
