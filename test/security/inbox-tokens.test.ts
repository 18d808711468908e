import { createHmac } from 'node:crypto';
import { expect, it } from 'vitest';
import { InboxTokens } from '../../src/security/inbox-tokens.js';

const holder = { organizationId: 'hospital-001', person: 'person:4AZIdxUoewhpFt2D72w6Dw' };
const key = Buffer.alloc(32, 1);
let now = Date.parse('2026-03-04T05:06:07.000Z');
const tokens = new InboxTokens(key, () => now);
const token = tokens.issue(holder, new Date(now + 60_000));
const opened = async (text: string) => {
  const session = await tokens.verify(text);
  return typeof session === 'object' ? session : undefined;
};

it('a token opens one inbox of one organization, and gives no permission', async () => {
  const session = await opened(token);
  expect(session?.principal).toEqual({
    ...{ actor: holder.person, credential: `inbox:${holder.person}`, organizations: ['hospital-001'] },
    ...{ grants: new Map(), isInstallationAdmin: false, inbox: holder },
  });
  expect(session?.isCurrent()).toBe(true);
  expect(await session?.renew()).toBe(session);
});

it('forged, changed, cut or respelled tokens are nobody’s', async () => {
  const [payload = '', mac = ''] = token.slice(4).split('.');
  const other = Buffer.from(JSON.stringify(['hospital-002', holder.person, now + 60_000])).toString('base64url');
  const signed = (text: string) => createHmac('sha256', Buffer.alloc(32, 2)).update(text).digest('base64url');
  const forged = [
    `wbi_${other}.${mac}`,
    `wbi_${payload}.${signed(payload)}`,
    `wbi_${payload}.${mac.slice(0, -1)}`,
    `wbi_${payload}.${mac}=`,
    `wbi_${payload}.${mac}.${mac}`,
    `wbi_${payload}.`,
    `wbi_${payload}`,
    'wbi_',
  ];
  for (const text of forged) expect(await tokens.verify(text), text).toBeUndefined();
  // 32 bytes leave two bits of the last character of base64url unused: none of its other spellings is taken.
  const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const spelled = [...last].filter((character) => character !== mac.at(-1));
  for (const character of spelled)
    expect(await opened(`wbi_${payload}.${mac.slice(0, -1)}${character}`)).toBeUndefined();
});

it('an expired token says so, and what it opened is closed', async () => {
  const session = await opened(token);
  now += 60_000;
  expect(await tokens.verify(token)).toBe('expired');
  expect(session?.isCurrent()).toBe(false);
  expect(await session?.renew()).toBeUndefined();
});
