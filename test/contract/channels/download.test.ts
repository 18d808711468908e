import { describe, expect, it } from 'vitest';
import { DownloadAdapter } from '../../../src/channels/adapters/download.js';
import type { Content, JsonObject } from '../../../src/domain/vocabulary.js';
import { Offers } from '../../support/offers.js';
import { conforms, messageOf, options } from './conformance.js';

const content: Content = { text: 'Dear Ada Lovelace' };
const CONFIG: JsonObject = { password: 'correct horse', maxUses: 3 };

let offers = new Offers();

conforms({
  name: 'download',
  create: () => {
    offers = new Offers();
    return new DownloadAdapter(offers);
  },
  async start() {
    return {
      config: CONFIG,
      behave: () => {
        offers.isAway = true;
      },
      seen: () => offers.offered.size,
      accepted: () => offers.offered.size,
      close: async () => undefined,
    };
  },
  bad: [
    { change: { expiresInSeconds: 59 }, path: 'expiresInSeconds' },
    { change: { password: 'short' }, path: 'password' },
    { change: { maxUses: 0 }, path: 'maxUses' },
    { change: { compression: 'rar' }, path: 'compression' },
  ],
  refusals: [],
  addresses: { good: '3600', bad: 'tomorrow' },
  content,
  oversized: { content, change: { maxBytes: 10 } },
  confidential: ['Ada Lovelace', 'correct horse'],
  never: ['unauthorized', 'limited'],
});

describe('download', () => {
  const sent = async (content: Content, config: JsonObject = {}) => {
    const port = new Offers();
    const outcome = await new DownloadAdapter(port).send(messageOf(config, content), {
      ...options(),
      now: new Date('2026-03-04T05:06:07.000Z'),
    });
    return [outcome, [...port.offered.values()][0]] as const;
  };
  const file = (filename: string, contentType: string) => ({ filename, contentType, base64: 'AAAA' });

  it('offers the files of a message for a week, under names without folders', async () => {
    const attachments = [file('../../etc/passwd', 'text/plain'), file('a.pdf', 'application/pdf')];
    const [, offered] = await sent({ attachments });
    expect(offered).toMatchObject({ isViewOnly: false, expiresAt: '2026-03-11T05:06:07.000Z' });
    expect(offered?.files.map(({ path }) => path)).toEqual(['.._.._etc_passwd', 'a.pdf']);
    expect((await sent({ text: 'x' }, { compression: 'zip' }))[1]?.files[0]?.path).toBe('files.zip');
  });

  it('shows only what browsers show without running it', async () => {
    const attachments = [file('a.svg', 'image/svg+xml')];
    expect((await sent({ attachments }, { viewOnly: true }))[0]).toMatchObject({ code: 'NOT_VIEWABLE' });
    expect((await sent({ html: '<b>x</b>' }, { viewOnly: true }))[0]).toMatchObject({ code: 'NOT_VIEWABLE' });
    expect((await sent({ text: 'x' }, { viewOnly: true }))[1]).toMatchObject({ isViewOnly: true });
  });
});
