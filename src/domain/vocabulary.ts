/** The words of the business, spelled as the public API spells them, so that no layer translates them. */

export const CHANNELS = [
  'EMAIL',
  'SMS',
  'PUSH',
  'IN_APP',
  'WEB_PUSH',
  'VOICE',
  'SLACK',
  'TEAMS',
  'WEBHOOK',
  'SFTP',
  'STORAGE',
  'DOWNLOAD',
  'API',
] as const;
export type Channel = (typeof CHANNELS)[number];

export const PRIORITIES = ['URGENT', 'HIGH', 'NORMAL', 'LOW'] as const;
export type Priority = (typeof PRIORITIES)[number];

/** Where the receiver itself answers, so that what it accepts has arrived. Inboxes and downloads are Waybill's own. */
export const CONFIRMED_BY_ACCEPTANCE: ReadonlySet<Channel> = new Set<Channel>([
  'WEBHOOK',
  'SFTP',
  'STORAGE',
  'IN_APP',
  'DOWNLOAD',
]);

/** SENT: the provider accepted it. DELIVERED: confirmed (for webhook, SFTP and storage, acceptance is confirmation). */
export const STATUSES = [
  'HELD',
  'QUEUED',
  'PROCESSING',
  'SENT',
  'DELIVERED',
  'FAILED',
  'BOUNCED',
  'REJECTED',
  'EXPIRED',
  'CANCELLED',
] as const;
export type Status = (typeof STATUSES)[number];

/** What status webhooks tell: how a delivery stands, and what its recipients did. */
export const STATUS_EVENTS = [
  ...(['HELD', 'SENT', 'DELIVERED', 'FAILED', 'BOUNCED', 'REJECTED', 'EXPIRED', 'CANCELLED'] as const),
  ...(['OPENED', 'CLICKED', 'COMPLAINED', 'OPTED_OUT'] as const),
] as const;
export type StatusEvent = (typeof STATUS_EVENTS)[number];

export const ERROR_CATEGORIES = [
  'TEMPORARY',
  'PERMANENT',
  'RATE_LIMIT',
  'AUTHENTICATION',
  'CONFIGURATION',
  'VALIDATION',
  'NETWORK',
  'SYSTEM',
] as const;
export type ErrorCategory = (typeof ERROR_CATEGORIES)[number];

/** Why something did not work, in words that may be shown to a person and kept for years: no secrets, no content. */
export interface Failure {
  readonly category: ErrorCategory;
  readonly code: string;
  readonly message: string;
}

/** A point in time as RFC 3339 text in UTC with milliseconds: what `new Date().toISOString()` gives. */
export type Instant = string;

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

export interface Attachment {
  readonly filename: string;
  readonly contentType: string;
  readonly base64: string;
  /** Of an inline image, which the HTML shows by `cid:<contentId>`. */
  readonly contentId?: string;
}

/** What only e-mail has. Whom it goes to beside the target, and header fields of the sender's own. */
export interface EmailOptions {
  readonly replyTo?: string;
  readonly cc?: readonly string[];
  readonly bcc?: readonly string[];
  readonly headers?: { readonly [name: string]: string };
}

/** What is to be delivered, as requested. */
export interface Content {
  readonly subject?: string;
  readonly text?: string;
  readonly html?: string;
  readonly data?: Json;
  readonly attachments?: readonly Attachment[];
  readonly email?: EmailOptions;
}

/** A problem with one field of some input; `path` is dotted, list items by index (`to.0.address`). */
export interface FieldProblem {
  readonly path: string;
  readonly problem: string;
}

/** Which organizations' data somebody may see: the tenant scope that every read and write carries down. */
export type Organizations = 'all' | readonly string[];

const ORGANIZATION = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
/** Whether it can be the id of an organization. */
export const isOrganization = (text: string): boolean => ORGANIZATION.test(text);

export const mayAccess = (organizations: Organizations, organizationId: string): boolean =>
  organizations === 'all' || organizations.includes(organizationId);

/**
 * Held per organization. The first seven are the product's own (seed 1, DeliveryPermissions). Two are ours: who decides
 * approvals must not thereby be able to retry or cancel, and who audits must see keys and roles without changing them.
 */
export const PERMISSIONS = [
  'CREATE_DELIVERY',
  'VIEW_DELIVERY',
  'MODIFY_DELIVERY',
  /** Deliveries are never deleted: this cancels them. */
  'DELETE_DELIVERY',
  'VIEW_ANALYTICS',
  /** Destinations, with their secrets and limits. */
  'MANAGE_PROVIDERS',
  /** Keys, roles and everything else that belongs to the organization alone. */
  'ADMIN',
  'APPROVE_DELIVERY',
  'VIEW_AUDIT',
] as const;
export type Permission = (typeof PERMISSIONS)[number];

/** Roles that every organization has; its own are added to them, and cannot take their names. */
export const BUILT_IN_ROLES: Readonly<Record<string, readonly Permission[]>> = {
  sender: ['CREATE_DELIVERY', 'VIEW_DELIVERY'],
  operator: ['VIEW_DELIVERY', 'MODIFY_DELIVERY', 'DELETE_DELIVERY', 'VIEW_ANALYTICS', 'MANAGE_PROVIDERS'],
  analyst: ['VIEW_ANALYTICS'],
  approver: ['VIEW_DELIVERY', 'APPROVE_DELIVERY'],
  auditor: ['VIEW_DELIVERY', 'VIEW_ANALYTICS', 'VIEW_AUDIT'],
  admin: PERMISSIONS,
};

/** What a provider says later of a message it has accepted, or of an address. */
export interface ProviderReport {
  /** The provider's own id of the report, or what else tells it from every other: the same one again is no news. */
  readonly id: string;
  readonly kind: 'Delivered' | 'Bounced' | 'Complained' | 'Opened' | 'Clicked' | 'OptedOut' | 'OptedIn';
  /** When it happened, by the provider's clock. */
  readonly at: Date;
  /** What was given to the provider with the message, where it gives it back. */
  readonly deliveryId?: string;
  readonly attemptKey?: string;
  /** Else the id that the provider gave it. */
  readonly providerMessageId?: string;
  /** The recipient's address. */
  readonly address?: string;
  /** Of a bounce: what the provider says. Short; may quote the address. */
  readonly code?: string;
  readonly detail?: string;
  /** The address is of no use any more, and nothing may be sent to it. */
  readonly suppress?: boolean;
}

/** What is none, Postgres would answer with an error instead of nothing. */
export const isUuid = (text: string): boolean => /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);
