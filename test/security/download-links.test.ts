import { expect, it } from 'vitest';
import { DownloadLinks } from '../../src/security/download-links.js';
import { Passwords, TooManyPasswords } from '../../src/security/passwords.js';

const links = new DownloadLinks(Buffer.alloc(32, 1));
const target = { id: 'b3f0c7f6-3d1c-4f2e-9a64-6a1f0f6f3b11', file: 2, expiresAt: new Date('2026-03-04T05:06:07.000Z') };
const url = new URL(links.pathOf(target), 'http://waybill.example');
const [expires, signature] = [url.searchParams.get('expires'), url.searchParams.get('signature') ?? ''];

it('a link says what it is good for', () => {
  expect(url.pathname).toBe(`/downloads/${target.id}/2`);
  expect(links.verified(target.id, '2', expires, signature)).toEqual(target);
});

it('a link that was changed anywhere, or signed by others, is none', () => {
  const other = new URL(new DownloadLinks(Buffer.alloc(32, 2)).pathOf(target), url).searchParams.get('signature');
  for (const [id, file, until, signed] of [
    ['b3f0c7f6-3d1c-4f2e-9a64-6a1f0f6f3b12', '2', expires, signature],
    [target.id, '3', expires, signature],
    [target.id, '02', expires, signature],
    [target.id, '../2', expires, signature],
    [target.id, '2', '1772600768', signature],
    [target.id, '2', `${expires} `, signature],
    [target.id, '2', expires, other],
    [target.id, '2', expires, signature.slice(1)],
    [target.id, '2', expires, ''],
    [target.id, '2', expires, undefined],
    [target.id, '2', [expires, expires], [signature, signature]],
  ] as const)
    expect(links.verified(id, file, until, signed), `${id} ${file} ${until} ${signed}`).toBeUndefined();
  // Neither can what is signed be cut in another way.
  expect(links.verified(`${target.id}\n2`, expires ?? '', '1', signature)).toBeUndefined();
});

it('passwords are checked two at a time, and no more than some wait', async () => {
  const passwords = new Passwords();
  const stored = await passwords.hash('correct horse');
  expect(stored.hash).not.toContain('correct');
  expect(await passwords.matches('correct horse', stored)).toBe(true);
  expect(await passwords.matches('correct horsf', stored)).toBe(false);
  const many = await Promise.allSettled(Array.from({ length: 40 }, () => passwords.matches('x', stored)));
  expect(many.filter(({ status }) => status === 'fulfilled')).toHaveLength(34);
  expect(many.at(-1)).toMatchObject({ status: 'rejected', reason: expect.any(TooManyPasswords) });
  expect(await passwords.matches('correct horse', stored)).toBe(true);
}, 60_000);
