import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type BenchReceiver, startReceiver } from '../../../bench/receiver.js';

let receiver: BenchReceiver;
beforeAll(async () => {
  receiver = await startReceiver();
});
afterEach(() => receiver.forget());
afterAll(() => receiver.close());

const post = (id: string, body = 'ü') =>
  `POST /hook HTTP/1.1\r\nHost: x\r\nWebhook-Id: ${id}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

async function answers(...parts: readonly (string | Buffer)[]): Promise<string> {
  const socket = connect({ port: receiver.port, host: '127.0.0.1', noDelay: true });
  const closed = once(socket, 'close');
  let text = '';
  socket.setEncoding('latin1').on('data', (some: string) => {
    text += some;
  });
  for (const part of parts) {
    await new Promise((resolve) => socket.write(part, resolve));
    // While it answers this it mostly reads the part, so that parts do not come together.
    await receiver.count();
  }
  socket.end();
  await closed;
  return text;
}

const OK = 'HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\nkeep-alive: timeout=60\r\n\r\n';

it('answers each post when all of it is there, however it comes', async () => {
  const whole = Buffer.from(post('one', 'a body with an ü and\r\n\r\nan empty line'));
  expect(await answers(whole)).toBe(OK);
  expect(await answers(...Array.from(whole, (byte) => Buffer.of(byte)))).toBe(OK);
  expect(await answers(Buffer.concat([whole, Buffer.from(post('two', ''))]), post('three'))).toBe(OK.repeat(3));
  expect(await receiver.count()).toEqual({ requests: 5, distinct: 3 });
  expect([...(await receiver.arrivals()).keys()]).toEqual(['one', 'two', 'three']);
});

it('does not count what was cut off, and refuses what does not say how long it is', async () => {
  expect(await answers(Buffer.from(post('cut', 'a long body')).subarray(0, -1))).toBe('');
  expect(await answers('POST /hook HTTP/1.1\r\nwebhook-id: x\r\n\r\n')).toContain('411');
  expect(await receiver.count()).toEqual({ requests: 0, distinct: 0 });
});
