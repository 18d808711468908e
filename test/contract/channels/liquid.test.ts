import { describe, expect, it } from 'vitest';
import { problemWithTemplate, render, variablesOf } from '../../../src/channels/messages/liquid.js';
import { messageOf } from './conformance.js';

describe('templates', () => {
  it('fill in variables', () => {
    expect(render('Dear {{ name }}, {{n | plus: 1}}', { name: 'Ada', n: 1 })).toEqual({
      kind: 'rendered',
      text: 'Dear Ada, 2',
    });
    expect(render('{{ name | default: "customer" }}', {})).toMatchObject({ text: 'customer' });
  });

  it('escape values for HTML, and only there', () => {
    expect(render('<p>{{x}}</p>', { x: '<b>&' }, 'html')).toMatchObject({ text: '<p>&lt;b&gt;&amp;</p>' });
    expect(render('<p>{{x}}</p>', { x: '<b>&' })).toMatchObject({ text: '<p><b>&</p>' });
  });

  it.each([
    '{{missing}}',
    '{{x.constructor}}',
    '{{x.__proto__}}',
    '{{x.toString}}',
    '{{ x | nope }}',
    '{{',
    '{% include "package.json" %}',
    '{% render "/etc/passwd" %}',
    '{% layout "a" %}',
  ])('fail on %s', (template) => {
    expect(render(template, { x: {} })).toMatchObject({ kind: 'failed', problem: expect.stringMatching(/./) });
  });

  it('are bounded in length, time and memory', () => {
    expect(problemWithTemplate('{'.repeat(200_000))).toMatch(/limit/);
    const endless = '{% for a in (1..9999) %}{% for b in (1..9999) %}{{a}}{% endfor %}{% endfor %}';
    expect(render(endless, {})).toMatchObject({ kind: 'failed', problem: expect.stringMatching(/limit/) });
    const huge = '{% for a in (1..99999999) %}{% endfor %}';
    expect(render(huge, {})).toMatchObject({ kind: 'failed', problem: expect.stringMatching(/limit/) });
  });

  it('show a typing error before they are used', () => {
    expect(problemWithTemplate('{{ name }}')).toBeUndefined();
    expect(problemWithTemplate('{% if name %}')).toMatch(/if/);
  });

  it('see the personalization before the data, and the data before what Waybill knows', () => {
    const content = { data: { name: 'data', date: 'yesterday', total: 1 } };
    expect(variablesOf(messageOf({}, content, { personalization: { name: 'person' } }))).toEqual({
      name: 'person',
      date: 'yesterday',
      total: 1,
      requestedAt: '2026-03-04T05:06:07.000Z',
      deliveryId: 'delivery-1',
    });
    expect(variablesOf(messageOf({}, { data: [1] }))).toMatchObject({ date: '2026-03-04' });
  });
});
