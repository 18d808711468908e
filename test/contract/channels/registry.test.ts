import { afterAll, describe, expect, it } from 'vitest';
import { ChannelRegistry, createChannels } from '../../../src/channels/registry.js';
import { CONFIRMED_BY_ACCEPTANCE } from '../../../src/domain/vocabulary.js';

const SECRET = `whsec_${Buffer.alloc(32, 'a').toString('base64')}`;
const webhook = {
  webhook: {
    url: 'https://hooks.example.com/in',
    secret: SECRET,
    headers: { Authorization: 'Bearer x', 'X-Api-Key': 'k', 'X-Source': 'audit' },
  },
};
const smtp = {
  email: {
    service: 'smtp',
    host: 'mail.example.com',
    auth: { user: 'u', pass: 'p4ss' },
    from: 'a@example.com',
    recipients: ['b@example.com'],
  },
};

describe('the registry of channels', () => {
  const { registry, close } = createChannels({ allowedNetworks: [] });
  afterAll(close);

  it('picks the adapter by channel and service', () => {
    const provider = (channel: Parameters<typeof registry.adapterFor>[0], config: object) => {
      const selection = registry.adapterFor(channel, config as never);
      return 'adapter' in selection ? selection.adapter.describe().provider : selection;
    };
    expect(provider('WEBHOOK', webhook)).toBe('webhook');
    expect(provider('EMAIL', smtp)).toBe('smtp');
    expect(provider('EMAIL', { email: { service: 'sendgrid' } })).toBe('sendgrid');
    expect(provider('STORAGE', { storage: { provider: 's3' } })).toBe('s3');
    expect(provider('STORAGE', { storage: {} })).toEqual([
      { path: 'config.storage.provider', problem: 'must be one of s3, azure, gcs, local' },
    ]);
    expect(provider('SMS', { sms: { service: 'twilio' } })).toBe('twilio');
    expect(provider('EMAIL', { email: { service: 'pigeon' } })).toEqual([
      { path: 'config.email.service', problem: 'must be one of smtp, sendgrid, ses, mailgun, resend, mailpace' },
    ]);
    expect(provider('EMAIL', webhook)).toEqual([{ path: 'config.webhook', problem: 'is not a known field' }]);
    expect(provider('EMAIL', {})).toEqual([{ path: 'config.email', problem: 'is required' }]);
    expect(provider('WEBHOOK', { webhook: 'x' })).toEqual([{ path: 'config.webhook', problem: 'must be an object' }]);
    expect(new ChannelRegistry([]).adapterFor('SFTP', {})).toEqual([
      { path: 'type', problem: 'channel SFTP is not available yet' },
    ]);
  });

  it('finds adapters by channel, whoever else uses the name of the provider', () => {
    const twilio = (channel: 'SMS' | 'VOICE', configKey: string) => {
      const selection = registry.adapterFor(channel, { [configKey]: { service: 'twilio' } });
      return 'adapter' in selection ? selection.adapter.describe().channel : selection;
    };
    expect(twilio('SMS', 'sms')).toBe('SMS');
    expect(twilio('VOICE', 'voice')).toBe('VOICE');
    expect(registry.addressProblem('EMAIL', 'nonsense')).toEqual(expect.any(String));
    expect(registry.addressProblem('EMAIL', 'ada@example.com')).toBeUndefined();
    const tokens = ['dGVzdC1kZXZpY2U:APA91bHun4MxP5eg', 'ab'.repeat(32), 'https://a.notify.windows.com/w/?token=x'];
    for (const token of tokens) expect(registry.addressProblem('PUSH', token), token).toBeUndefined();
    expect(registry.addressProblem('PUSH', 'nonsense')).toContain('registration token');
    expect(registry.addressProblem('PUSH', 'nonsense')).toContain('channel URI');
    expect(new ChannelRegistry([]).addressProblem('DOWNLOAD', 'x')).toContain('is not available yet');
  });

  it('has adapters that agree with the domain on what acceptance means', () => {
    for (const adapter of registry.adapters) {
      const { channel, acceptanceIsDelivery, provider } = adapter.describe();
      expect(acceptanceIsDelivery, provider).toBe(CONFIRMED_BY_ACCEPTANCE.has(channel));
    }
  });

  it('reports problems from the destination on', () => {
    expect(registry.validate('WEBHOOK', webhook)).toEqual([]);
    expect(registry.validate('EMAIL', smtp)).toEqual([]);
    const bad = { webhook: { ...webhook.webhook, url: 'http://127.0.0.1/' } };
    expect(registry.validate('WEBHOOK', bad).map(({ path }) => path)).toEqual(['config.webhook.url']);
    const worse = { email: { ...smtp.email, recipients: ['b@example.com', 'c'] }, webhook: {} };
    expect(registry.validate('EMAIL', worse).map(({ path }) => path)).toEqual(['config.webhook']);
  });

  it('knows the secrets of a configuration', () => {
    expect(registry.secretPaths('WEBHOOK', webhook)).toEqual([
      'webhook.secret',
      'webhook.headers.Authorization',
      'webhook.headers.X-Api-Key',
    ]);
    expect(registry.secretPaths('EMAIL', smtp)).toEqual(['email.auth.pass']);
    expect(registry.secretPaths('SFTP', {})).toEqual([]);
  });
});
