import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { Egress } from '../../../src/channels/net/egress.js';
import { Wire } from '../../../src/channels/net/wire.js';
import { collectingGarbage } from '../../support/garbage.js';
import { startHttpPeer } from '../../support/peers/http-peer.js';

it('all requests of one call share its time; once it is over nothing more is sent', async () => {
  const peer = await startHttpPeer(({ raw }) => (raw === 'first' ? { body: 'here' } : 'silence'));
  const egress = new Egress({ allowedNetworks: ['127.0.0.0/8'] });
  const wire = new Wire(egress, {}, new AbortController().signal, 2_000);
  const overAt = performance.now() + 2_000;
  const post = (body: string | Readable) =>
    wire.request({ url: new URL(peer.origin), method: 'POST', headers: {}, body });

  await collectingGarbage(async () => {
    expect(await post('first')).toMatchObject({ status: 200, body: 'here' });
    await expect(post('second')).rejects.toMatchObject({ name: 'TimeoutError' });
  });
  // A timer may be a little early.
  await expect.poll(() => performance.now()).toBeGreaterThan(overAt);
  const body = Readable.from(['third']);
  await expect(post(body)).rejects.toMatchObject({ name: 'TimeoutError' });
  expect(body.destroyed).toBe(true);
  expect(peer.received.map(({ raw }) => raw)).toEqual(['first', 'second']);
  expect(wire.hasSent).toBe(true);
  await egress.close();
  await peer.close();
});
