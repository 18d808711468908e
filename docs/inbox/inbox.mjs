/**
 * The inbox of one user in a page, over one WebSocket that speaks graphql-transport-ws. It comes back by itself after an
 * interruption and goes on from its cursor, so that nothing is missed and nothing is shown twice.
 *
 *     import { openInbox } from './inbox.mjs';
 *     const inbox = openInbox({
 *       url: 'wss://waybill.example.com/graphql',
 *       // Asks your own server, which asks Waybill: createInboxToken(address: "<your user's id>") { token }
 *       token: async () => (await fetch('/inbox-token')).text(),
 *       onChange(messages) { … },
 *     });
 *     await inbox.markRead(messages[0].id);
 *
 * @param {object} options
 * @param {string} options.url of the GraphQL API
 * @param {() => Promise<string>} options.token a new one for each connection
 * @param {(messages: object[]) => void} options.onChange gets all messages known, the newest first
 * @param {(problem: string) => void} [options.onProblem] hears why it is not connected; it tries again by itself
 * @param {typeof WebSocket} [options.WebSocket] default: the browser's
 */
export function openInbox({ url, token, onChange, onProblem = () => {}, WebSocket = globalThis.WebSocket }) {
  const FIELDS = 'id title text data priority storedAt readAt expiresAt place cursor';
  const messages = new Map();
  const waiting = new Map();
  let cursor;
  let socket;
  let failures = 0;
  let next = 1;
  let isClosed = false;
  let retry;

  const send = (message) => socket.send(JSON.stringify(message));

  /** One query or mutation over the socket. */
  const ask = (query, variables) =>
    new Promise((resolve, reject) => {
      if (socket?.readyState !== 1) return reject(new Error('not connected'));
      const id = String(next++);
      waiting.set(id, { resolve, reject });
      send({ id, type: 'subscribe', payload: { query, variables } });
    });

  const show = (changed) => {
    for (const message of changed) messages.set(message.id, message);
    const now = new Date().toISOString();
    for (const { id, expiresAt } of messages.values()) if (expiresAt <= now) messages.delete(id);
    onChange([...messages.values()].sort((one, other) => (BigInt(one.place) < BigInt(other.place) ? 1 : -1)));
  };

  const begin = async () => {
    if (cursor === undefined) {
      const { inbox } = await ask(`{ inbox(first: 50) { cursor messages { ${FIELDS} } } }`);
      cursor = inbox.cursor;
      show(inbox.messages);
    }
    const query = `subscription ($after: String) { inboxChanged(after: $after) { ${FIELDS} } }`;
    send({ id: 'changes', type: 'subscribe', payload: { query, variables: { after: cursor } } });
    failures = 0;
  };

  const hear = ({ id, type, payload }) => {
    if (type === 'connection_ack') begin().catch(() => socket.close());
    else if (type === 'ping') send({ type: 'pong' });
    else if (id === 'changes') {
      const changed = type === 'next' && payload.data?.inboxChanged;
      if (changed) {
        cursor = changed.cursor;
        show([changed]);
      } else socket.close(); // An error, or its end: begin again from the cursor.
    } else if (waiting.has(id) && type !== 'complete') {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      const errors = type === 'error' ? payload : payload.errors;
      if (errors?.length) reject(new Error(errors[0].message));
      else resolve(payload.data);
    }
  };

  const connect = async () => {
    let authorization;
    try {
      authorization = `Bearer ${await token()}`;
    } catch (error) {
      return again(error.message);
    }
    if (isClosed) return;
    socket = new WebSocket(url, 'graphql-transport-ws');
    socket.onopen = () => send({ type: 'connection_init', payload: { authorization } });
    socket.onmessage = ({ data }) => hear(JSON.parse(data));
    socket.onerror = () => {};
    socket.onclose = ({ reason }) => again(reason || 'the connection was lost');
  };

  /** After 1 s, then up to 30 s, each time up to half of it longer, so that not all pages come back at once. */
  const again = (problem) => {
    for (const { reject } of waiting.values()) reject(new Error(problem));
    waiting.clear();
    if (isClosed) return;
    onProblem(problem);
    retry = setTimeout(connect, Math.min(1_000 * 2 ** failures++, 30_000) * (1 + Math.random() / 2));
  };

  const mark =
    (field) =>
    async (...ids) => {
      await ask(`mutation ($ids: [ID!]!) { ${field}(ids: $ids) }`, { ids });
    };

  connect();
  return {
    markRead: mark('markInboxRead'),
    markUnread: mark('markInboxUnread'),
    close() {
      isClosed = true;
      clearTimeout(retry);
      socket?.close();
    },
  };
}
