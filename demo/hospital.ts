import type { WaybillProcess } from '../test/support/waybill-process.js';
import { MAIL_LOGIN, PATHS, REGISTRY_LOGIN, type Receivers, SIEM_TOKEN } from './receivers.js';

/** The hospital of the tutorials: where it sends things, and what it sends. */

export const ORGANIZATION = 'hospital-001';

export interface Destinations {
  readonly complianceEmail: string;
  readonly siemWebhook: string;
  readonly secureEmail: string;
  readonly onCallEmail: string;
  readonly pharmacyWebhook: string;
  readonly pagerWebhook: string;
  readonly archiveWebhook: string;
  readonly registrySftp: string;
  readonly auditFolder: string;
  readonly auditorDownload: string;
  /** The secrets that webhooks are signed with, by path: each was shown once, when its destination was made. */
  readonly signingSecrets: ReadonlyMap<string, string>;
}

/** So patient that a failure shows, so quick that nobody falls asleep. */
const QUICK = { strategy: 'FIXED', initialDelayMs: 250, jitter: 0 };

export async function createDestinations(waybill: WaybillProcess, receivers: Receivers): Promise<Destinations> {
  const signingSecrets = new Map<string, string>();

  const create = async (
    label: string,
    type: 'DOWNLOAD' | 'EMAIL' | 'SFTP' | 'STORAGE' | 'WEBHOOK',
    config: object,
    retry?: object,
  ) => {
    const { createDestination } = await waybill.ask<{ createDestination: { id: string; signingSecret?: string } }>(
      `mutation ($input: DestinationInput!) { createDestination(input: $input) { id signingSecret } }`,
      { input: { organizationId: ORGANIZATION, label, type, config, retry } },
    );
    return createDestination;
  };
  const email = async (label: string, config: object) => {
    const server = { service: 'smtp', host: '127.0.0.1', port: receivers.mailPort, auth: MAIL_LOGIN };
    return (await create(label, 'EMAIL', { email: { ...server, ...config } })).id;
  };
  const webhook = async (label: string, url: string, config: object, retry?: object) => {
    const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${SIEM_TOKEN}` };
    const target = { url, method: 'POST', ...config, headers: { ...headers, 'X-Source': 'audit-system' } };
    const { id, signingSecret } = await create(label, 'WEBHOOK', { webhook: target }, retry);
    if (signingSecret) signingSecrets.set(new URL(url).pathname, signingSecret);
    return id;
  };
  const at = (path: string) => receivers.webOrigin + path;

  return {
    complianceEmail: await email('Compliance Team Email', COMPLIANCE_EMAIL),
    siemWebhook: await webhook('SIEM Integration', at(PATHS.siem), SIEM),
    secureEmail: await email('Secure PHI Email', SECURE_EMAIL),
    onCallEmail: await email('Security On-Call', ON_CALL_EMAIL),
    pharmacyWebhook: await webhook('Pharmacy System', at(PATHS.pharmacy), {}, { ...QUICK, maxAttempts: 5 }),
    pagerWebhook: await webhook('Pager Gateway', `${receivers.deadOrigin}/page`, {}, { ...QUICK, maxAttempts: 2 }),
    registrySftp: (await create('Health Registry', 'SFTP', { sftp: registryOf(receivers) })).id,
    auditFolder: (await create('Audit Folder', 'STORAGE', { storage: AUDIT_FOLDER })).id,
    auditorDownload: (await create('External Auditor', 'DOWNLOAD', { download: AUDITOR_DOWNLOAD })).id,
    archiveWebhook: await webhook('Audit Archive', at(PATHS.archive), {}, { ...QUICK, maxAttempts: 2 }),
    signingSecrets,
  };
}

const COMPLIANCE_EMAIL = {
  from: 'audit@hospital.com',
  recipients: ['compliance@hospital.com', 'security@hospital.com'],
  subject: 'Daily Compliance Report - {{date}}',
  bodyTemplate: `Dear Compliance Team,

Please find below the daily compliance report for {{date}}.

Summary:
- Total audit events: {{totalEvents}}
- Failed login attempts: {{failedLogins}}
- Data access events: {{dataAccess}}

Best regards,
Audit System
`,
};

const SIEM = {
  timeout: 15_000,
  retryConfig: { maxRetries: 5, backoffMultiplier: 2, maxBackoffDelay: 120_000 },
};

const SECURE_EMAIL = {
  from: 'hipaa-audit@hospital.com',
  recipients: ['privacy-officer@hospital.com'],
  subject: '[CONFIDENTIAL] PHI Audit Report - {{date}}',
  bodyTemplate: `CONFIDENTIAL - CONTAINS PHI

Report Details:
- Report ID: {{reportId}}
- Generated: {{generatedAt}}
- PHI Records: {{phiRecordCount}}
`,
};

const ON_CALL_EMAIL = {
  from: 'audit@hospital.com',
  recipients: ['on-call@hospital.com'],
  subject: 'Alert - {{alertType}}',
  bodyTemplate: 'User {{userId}} accessed patient {{patientId}}: risk level {{riskLevel}}.\n',
};

const registryOf = ({ registry }: Receivers) => ({
  ...{ host: registry.host, port: registry.port, hostKeyFingerprint: registry.fingerprint, ...REGISTRY_LOGIN },
  path: 'in/',
});

const AUDIT_FOLDER = { provider: 'local', path: '/audits/{year}/' };

export const DOWNLOAD_PASSWORD = 'a-password-for-the-auditor';
const AUDITOR_DOWNLOAD = { expiresInSeconds: 3_600, password: DOWNLOAD_PASSWORD, maxUses: 1 };

/** Whose inbox in the hospital's own application it is. */
export const PRIVACY_OFFICER = 'privacy-officer';

export const today = (): string => new Date().toISOString().slice(0, 10);

export const dailyReport = () => ({
  type: 'report',
  reportId: `daily-${today()}`,
  title: 'Daily Compliance Report',
  generatedAt: new Date().toISOString(),
  totalEvents: 15_420,
  failedLogins: 23,
  dataAccess: 4_711,
});

export const phiAccess = () => ({
  type: 'phi-access',
  eventId: 'evt-20931',
  patientId: 'patient-456',
  userId: 'dr-smith',
  action: 'view',
  accessReason: 'treatment',
  dataElements: ['medications', 'allergies'],
});

export const prescriptionChange = () => ({ type: 'prescription', patientId: 'patient-456', change: 'dose' });

export const highRiskAlert = () => ({
  type: 'alert',
  alertType: 'high-risk-phi-access',
  patientId: 'patient-456',
  userId: 'temp-clerk-7',
  riskLevel: 'high',
});

export const phiReport = () => ({
  type: 'phi-report',
  reportId: `phi-${today()}`,
  generatedAt: new Date().toISOString(),
  phiRecordCount: 312,
});

/** A small PDF, as far as anybody looks. */
export const yearlyAudit = (): Buffer => Buffer.from(`%PDF-1.4\n% Access audit of ${today().slice(0, 4)}\n%%EOF\n`);

export const shiftSummary = () => ({ type: 'shift-summary', shift: 'night', wards: 12 });

export const archiveExport = () => ({ type: 'archive', month: today().slice(0, 7), records: 461_004 });

export const auditEvent = (number: number) => ({ type: 'audit-event', number, action: 'login', outcome: 'success' });
