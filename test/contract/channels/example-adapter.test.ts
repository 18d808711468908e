import { PagerAdapter } from '../../support/example-adapter.js';
import type { Reaction } from '../../support/peers/http-peer.js';
import { type Behaviour, conforms } from './conformance.js';
import { receiving } from './peers.js';

const TOKEN = 't0ken-of-the-pager';
const QUOTE = `${TOKEN} Ada Lovelace`;
const REACTIONS: Readonly<Record<Behaviour, Reaction>> = {
  accepts: { status: 200 },
  unavailable: { status: 503, body: QUOTE },
  unauthorized: { status: 401, body: QUOTE },
  limited: { status: 429, headers: { 'retry-after': '7' }, body: QUOTE },
  silent: 'silence',
  drops: 'drop',
};

/** The adapter that docs/channels/writing-an-adapter.md shows. */
conforms({
  name: 'pager',
  create: (egress) => new PagerAdapter(egress),
  start: () => receiving(({ url }) => ({ url, token: TOKEN }), REACTIONS),
  bad: [{ change: { url: 'pager' }, path: 'url' }],
  refusals: [],
  redirect: (port) => ({ url: `http://127.0.0.1:${port}/` }),
  addresses: { good: 'https://pager.example/page', bad: 'pager' },
  content: { text: 'Ada Lovelace' },
  confidential: [TOKEN, 'Ada Lovelace'],
  retryAfterMs: 7_000,
});
