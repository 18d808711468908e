import type { StoredContent } from '../domain/delivery-events.js';
import { keptWith } from '../domain/retention.js';
import type { JsonObject } from '../domain/vocabulary.js';

/**
 * Which fields of which events are personal or secret, and whose they are. Everything else lies in the log in clear, and
 * must never be either: ids, times, statuses, error categories and codes, tags, metadata of the client's own.
 *
 * | event | sealed | whose |
 * |---|---|---|
 * | DeliveryRequested | `legs.*.routes.*.address` | the person's; where it names nobody, the delivery's |
 * | DeliveryRequested | `content`, `personalization` | the delivery's |
 * | AttemptFailed, Bounced, FallbackChosen, LegDeadLettered | `failure.message`, which may repeat what a provider said | the delivery's |
 * | AttemptSucceeded | `warning` | the delivery's |
 * | AddressSuppressed | `address` | the person's, for a week, of the class `suppression` |
 * | InboxMessageStored | `content` | the person's, for the week and class of the delivery |
 * | DownloadOffered | `files`, `password`, and `fileKey`, which opened files that lay elsewhere | the delivery's |
 * | DownloadAccessed, DownloadRefused | `address` of whoever came | the delivery's |
 * | DestinationCreated, DestinationUpdated, DestinationSecretRotated | `config`; apart from it `secrets` | the destination's |
 * | AccessRecorded | `ip`, the caller's address | the organization's, by the week, of the class `access` |
 * | ApiKeyCreated | `name`, which people give | the organization's |
 */

/** What is shown where something was that nobody can read any more. */
export const ERASED = '[erased]';

/** What the clear part of an event says of what lies outside the log; the sealed part knows which fields these are. */
export type ContentReference = Omit<StoredContent, 'path'>;

/** What one subject's key is to protect: the fields, and under which names they come back. */
export interface Part {
  readonly subject: string;
  readonly fields: JsonObject;
}

/** An event's data in two: a copy of what stays as it is, and what is sealed. Undefined when nothing of it is sensitive. */
export function takeOut(
  type: string,
  data: JsonObject,
  subject: string,
): { readonly clear: JsonObject; readonly parts: readonly Part[] } | undefined {
  switch (type) {
    case 'DeliveryRequested':
      return takeOutOfRequest(data, subject);
    case 'AttemptFailed':
    case 'Bounced':
    case 'FallbackChosen':
    case 'LegDeadLettered': {
      const { message, ...failure } = data.failure as JsonObject;
      if (message === undefined) return undefined;
      return { clear: { ...data, failure }, parts: [{ subject, fields: { message } }] };
    }
    case 'AttemptSucceeded': {
      if (data.warning === undefined) return undefined;
      const { warning, ...clear } = data;
      return { clear, parts: [{ subject, fields: { warning } as JsonObject }] };
    }
    case 'AddressSuppressed': {
      const { address, ...clear } = data;
      return { clear, parts: [{ subject, fields: { address } as JsonObject }] };
    }
    case 'DownloadOffered': {
      const { files, fileKey, password, ...clear } = data;
      return { clear, parts: [{ subject, fields: { files, fileKey, password } as JsonObject }] };
    }
    case 'DownloadAccessed':
    case 'DownloadRefused': {
      if (data.address === undefined) return undefined;
      const { address, ...clear } = data;
      return { clear, parts: [{ subject, fields: { address } as JsonObject }] };
    }
    case 'InboxMessageStored': {
      const { content, ...clear } = data;
      return { clear, parts: [{ subject, fields: { content } as JsonObject }] };
    }
    case 'AccessRecorded': {
      if (data.ip === undefined) return undefined;
      const { ip, ...clear } = data;
      return { clear, parts: [{ subject, fields: { ip } as JsonObject }] };
    }
    case 'ApiKeyCreated': {
      const { name, ...clear } = data;
      return { clear, parts: [{ subject, fields: { name } as JsonObject }] };
    }
    case 'DestinationCreated':
    case 'DestinationUpdated':
    case 'DestinationSecretRotated': {
      const { config, secrets, ...clear } = data;
      // Two parts: read models keep the first, and are never given the second, sealed or not.
      const parts = [
        { subject, fields: { config } as JsonObject },
        { subject, fields: { secrets } as JsonObject },
      ];
      return { clear, parts };
    }
    default:
      return undefined;
  }
}

function takeOutOfRequest(data: JsonObject, subject: string) {
  const { content, personalization, ...clear } = data as unknown as Request;
  // Nothing more is copied than must be: nearly all deliveries go to destinations.
  if (clear.legs.every(({ routes }) => routes.every(({ address }) => address === undefined)))
    return {
      clear: clear as unknown as JsonObject,
      parts: [{ subject, fields: { content, personalization } as never }],
    };
  const addressesOf = new Map<string, Address[]>();
  const legs = clear.legs.map((leg, at) => ({
    ...leg,
    routes: leg.routes.map(({ address, ...route }, nth) => {
      if (address === undefined) return route;
      const whose = route.subject === undefined ? subject : keptWith(subject, route.subject);
      addressesOf.set(whose, [...(addressesOf.get(whose) ?? []), [at, nth, address]]);
      return route;
    }),
  }));
  const own = { content, personalization, addresses: addressesOf.get(subject) };
  const parts: Part[] = [{ subject, fields: own as unknown as JsonObject }];
  for (const [whose, addresses] of addressesOf)
    if (whose !== subject) parts.push({ subject: whose, fields: { addresses } });
  return { clear: { ...clear, legs } as unknown as JsonObject, parts };
}

/** Whether there is something in it that is to be sealed. */
export function isSealed(type: string, data: JsonObject): boolean {
  switch (type) {
    case 'AttemptFailed':
    case 'Bounced':
    case 'FallbackChosen':
    case 'LegDeadLettered':
      return (data.failure as JsonObject).message !== undefined;
    case 'AttemptSucceeded':
      return data.warning !== undefined;
    default:
      return takeOut(type, data, '') !== undefined;
  }
}

/** An event's data without what is sensitive, of somebody who was erased: it reads the same as if it had been sealed before. */
export function forgotten(type: string, data: JsonObject): JsonObject {
  const taken = takeOut(type, data, '');
  return taken
    ? putBack(
        type,
        taken.clear,
        taken.parts.map(() => undefined),
      )
    : data;
}

/** The opposite. @param opened the fields of each part, in order; undefined where the key was destroyed */
export function putBack(type: string, data: JsonObject, opened: readonly (JsonObject | undefined)[]): JsonObject {
  const { sealed: _, ...clear } = data;
  const isErased = opened.includes(undefined);
  switch (type) {
    case 'DeliveryRequested': {
      const { legs, stored, ...rest } = clear as unknown as Request;
      const own = opened[0] as Own | undefined;
      const request = {
        ...rest,
        legs: withAddresses(legs, opened),
        content: own ? own.content : { text: ERASED },
        ...(own?.personalization && { personalization: own.personalization }),
        ...(own && (stored || own.apart) && { stored: paired(own.apart, stored) }),
        ...(isErased && { erased: true }),
      };
      return request as unknown as JsonObject;
    }
    case 'AttemptFailed':
    case 'Bounced':
    case 'FallbackChosen':
    case 'LegDeadLettered':
      return { ...clear, failure: { ...(clear.failure as JsonObject), message: opened[0]?.message ?? ERASED } };
    case 'AttemptSucceeded':
      return { ...clear, warning: opened[0]?.warning ?? ERASED };
    case 'AccessRecorded':
      return { ...clear, ip: opened[0]?.ip ?? ERASED };
    case 'ApiKeyCreated':
      return { ...clear, name: opened[0]?.name ?? ERASED };
    case 'AddressSuppressed':
      return { ...clear, address: opened[0]?.address ?? ERASED };
    case 'DownloadOffered':
      return { ...clear, ...opened[0] };
    case 'DownloadAccessed':
    case 'DownloadRefused':
      return { ...clear, address: opened[0]?.address ?? ERASED };
    case 'InboxMessageStored':
      return { ...clear, content: opened[0]?.content ?? { text: ERASED } };
    default:
      return { ...clear, config: opened[0]?.config ?? {}, secrets: opened[1]?.secrets ?? {} };
  }
}

/** What is seen without any key: read models are made of it. A `token` can be opened later, by whoever has the key. */
export function leaveClosed(type: string, data: JsonObject, token: (part: number) => string): JsonObject {
  const { sealed: _, ...clear } = data;
  switch (type) {
    case 'DeliveryRequested':
      return { ...clear, content: {} };
    case 'AttemptFailed':
    case 'Bounced':
    case 'FallbackChosen':
    case 'LegDeadLettered':
      return { ...clear, failure: { ...(clear.failure as JsonObject), message: token(0) } };
    case 'AttemptSucceeded':
      return { ...clear, warning: token(0) };
    case 'AccessRecorded':
    case 'ApiKeyCreated':
      return clear;
    case 'AddressSuppressed':
      return { ...clear, address: token(0) };
    case 'DownloadOffered':
    case 'DownloadAccessed':
    case 'DownloadRefused':
      return clear;
    case 'InboxMessageStored':
      return { ...clear, content: { sealed: token(0) } };
    default:
      return { ...clear, config: { sealed: token(0) }, secrets: {} };
  }
}

/** Index of the leg, index of the route, address. */
type Address = readonly [leg: number, route: number, address: string];

interface Request {
  readonly legs: readonly {
    readonly routes: readonly {
      readonly address?: string;
      readonly subject?: string;
      readonly destinationId?: string;
    }[];
  }[];
  readonly content: JsonObject;
  readonly personalization?: JsonObject;
  readonly stored?: readonly ContentReference[];
}

interface Own {
  readonly content: JsonObject;
  readonly personalization?: JsonObject;
  /** The fields that lie outside the log, in the order of the references to them. */
  readonly apart?: readonly string[];
}

/** What is in clear is not authenticated: a reference taken away must not pass for an empty field. */
function paired(paths: readonly string[] = [], references: readonly ContentReference[] = []): StoredContent[] {
  if (paths.length !== references.length) throw new Error('the references to what lies outside the log were changed');
  return references.map((reference, index) => ({ ...reference, path: paths[index] as string }));
}

function withAddresses(legs: Request['legs'], opened: readonly (JsonObject | undefined)[]): Request['legs'] {
  const known = new Map<string, string>();
  for (const fields of opened)
    for (const [leg, route, address] of (fields?.addresses as readonly Address[] | undefined) ?? [])
      known.set(`${leg}.${route}`, address);
  const isErased = opened.includes(undefined);
  if (known.size === 0 && !isErased) return legs;
  return legs.map((leg, at) => ({
    ...leg,
    routes: leg.routes.map((route, nth) => {
      const address = known.get(`${at}.${nth}`) ?? (isErased && route.destinationId === undefined ? ERASED : undefined);
      return address === undefined ? route : { ...route, address };
    }),
  }));
}
