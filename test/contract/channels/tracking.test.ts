import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SmtpAdapter } from '../../../src/channels/adapters/smtp.js';
import { TrackingLinks, withOpenPicture, withTrackedLinks } from '../../../src/channels/email/tracking.js';
import { Egress } from '../../../src/channels/net/egress.js';

const sign = (text: string) => createHmac('sha256', 'secret').update(text).digest('base64url').slice(0, 22);
const links = new TrackingLinks({ publicUrl: 'https://waybill.example', sign });
const KEY = 'd0000000-0000-4000-8000-000000000001_1';
const to = (url: string) => `"${links.click(KEY, url)}"`;

describe('tracked links', () => {
  it.each([
    ['<a href="https://a.example/">x</a>', `<a href=${to('https://a.example/')}>x</a>`],
    [
      `<A class='b' HREF = 'http://a.example/?q="1"'>x</A>`,
      `<A class='b' HREF = ${to('http://a.example/?q="1"')}>x</A>`,
    ],
    ['<a href="https://a.example/?a=1&amp;b=&quot;">x</a>', `<a href=${to('https://a.example/?a=1&b="')}>x</a>`],
    ['<a title="a > b" href="https://a.example/">x</a>', `<a title="a > b" href=${to('https://a.example/')}>x</a>`],
  ])('lead by Waybill: %s', (html, expected) => {
    expect(withTrackedLinks(html, links, KEY)).toBe(expected);
  });

  it.each([
    '<a href="mailto:ada@example.com">x</a>',
    '<a href="#top">x</a>',
    '<a href="javascript:alert(1)">x</a>',
    '<a href="https://">x</a>',
    '<abbr href="https://a.example/">x</abbr>',
    '<a name="x">https://a.example/</a>',
    '<link href="https://a.example/">',
    `<a href="https://a.example/${'x'.repeat(2_000)}">x</a>`,
  ])('are left alone: %s', (html) => {
    expect(withTrackedLinks(html, links, KEY)).toBe(html);
  });

  it('are found in time that grows with the text, whatever it is', () => {
    const startedAt = performance.now();
    for (const part of ['<a ', '<a href=', '<a href="', "<a x='", '<a x="a" '])
      withTrackedLinks(part.repeat(40_000), links, KEY);
    expect(performance.now() - startedAt).toBeLessThan(10_000);
  });

  it('are nobody else’s: kind, message, page and address are all signed', () => {
    const signature = links.click(KEY, 'https://a.example/').split('/')[6]?.split('?')[0] as string;
    expect(links.isGenuine('click', KEY, 'https://a.example/', signature)).toBe(true);
    expect(links.isGenuine('click', KEY, 'https://b.example/', signature)).toBe(false);
    expect(links.isGenuine('click', `${KEY}_r1`, 'https://a.example/', signature)).toBe(false);
    expect(links.isGenuine('unsubscribe', KEY, 'https://a.example/', signature)).toBe(false);
    for (const forged of ['', 'x', signature.slice(1), `${signature}=`])
      expect(links.isGenuine('click', KEY, 'https://a.example/', forged)).toBe(false);
    const out = links.unsubscribe(KEY, 'Ada@Example.com').split('/')[6] as string;
    expect(links.isGenuine('unsubscribe', KEY, 'ada@example.com', out)).toBe(true);
    expect(links.isGenuine('unsubscribe', KEY, 'eve@example.com', out)).toBe(false);
  });
});

describe('the picture', () => {
  it('stands at the end of the body', () => {
    const picture = `<img src="${links.open(KEY)}" width="1" height="1" alt="">`;
    expect(withOpenPicture('<p>x</p>', links, KEY)).toBe(`<p>x</p>${picture}`);
    expect(withOpenPicture('<body>x</BODY></html>', links, KEY)).toBe(`<body>x${picture}</BODY></html>`);
  });
});

describe('tracking', () => {
  it('needs to know where the world reaches us', () => {
    const config = {
      service: 'smtp',
      host: '8.8.8.8',
      from: 'a@b.example',
      recipients: ['c@d.example'],
      tracking: { opens: true },
    };
    const egress = new Egress({ allowedNetworks: [] });
    const nowhere = new TrackingLinks({ publicUrl: undefined, sign });
    expect(new SmtpAdapter(egress, links).validate(config)).toEqual([]);
    for (const adapter of [new SmtpAdapter(egress), new SmtpAdapter(egress, nowhere)])
      expect(adapter.validate(config)).toEqual([
        { path: 'tracking', problem: expect.stringContaining('WAYBILL_PUBLIC_URL') },
      ]);
    const [problem] = new SmtpAdapter(egress, links).validate({ ...config, tracking: { opens: 'yes' } });
    expect(problem?.path).toBe('tracking.opens');
  });
});
