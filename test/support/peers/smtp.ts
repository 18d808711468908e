import type { AddressInfo, Socket } from 'node:net';
import { type ParsedMail, simpleParser } from 'mailparser';
import { SMTPServer } from 'smtp-server';
import { LOCALHOST } from './certificate.js';

export interface ReceivedMail {
  readonly from: string;
  /** The recipients that were accepted. */
  readonly to: readonly string[];
  /** Who logged in, undefined when nobody did. */
  readonly user: string | undefined;
  /** True when it came over TLS. */
  readonly secure: boolean;
  readonly mail: ParsedMail;
  readonly raw: string;
}

/** A refusal with its reply code and text, `drop` for closing the connection, `silence` for no reply at all. */
export type SmtpReaction = { readonly code: number; readonly text: string } | 'drop' | 'silence' | undefined;

export interface SmtpPeer {
  readonly host: string;
  readonly port: number;
  readonly received: ReceivedMail[];
  /** Assign any of these at any time; undefined is the consent. */
  onConnect: () => SmtpReaction;
  onRecipient: (address: string) => SmtpReaction;
  /** After the whole message has come. */
  onMessage: () => SmtpReaction;
  /** Connections opened so far, and those that are open. */
  connections(): { readonly opened: number; readonly open: number };
  /** Closes the connections that are open, as a server does with idle ones. */
  dropConnections(): void;
  close(): Promise<void>;
}

export interface SmtpPeerOptions {
  readonly port?: number;
  /** Demands this login. Default: takes mail from anyone. */
  readonly auth?: { readonly user: string; readonly pass: string };
  /** `implicit` speaks TLS from the first byte. Default `none`. The certificate is the one in certificate.ts. */
  readonly tls?: 'none' | 'starttls' | 'implicit';
  /** Largest message in bytes, announced to the client. Default: none. */
  readonly size?: number;
}

/** A real SMTP server on 127.0.0.1 that keeps what it gets. */
export async function startSmtpPeer({ port = 0, auth, tls = 'none', size }: SmtpPeerOptions = {}): Promise<SmtpPeer> {
  const received: ReceivedMail[] = [];
  const sockets = new Set<Socket>();
  let opened = 0;
  const dropConnections = () => sockets.forEach((socket) => void socket.destroy());

  const react = (reaction: SmtpReaction, consent: () => void, refuse: (error: Error) => void) => {
    if (reaction === undefined) consent();
    else if (reaction === 'drop') dropConnections();
    else if (reaction !== 'silence') {
      refuse(Object.assign(new Error(reaction.text), { responseCode: reaction.code }));
    }
  };

  const server = new SMTPServer({
    ...(tls === 'none' ? {} : LOCALHOST),
    secure: tls === 'implicit',
    disabledCommands: tls === 'none' ? ['STARTTLS'] : [],
    authOptional: auth === undefined,
    allowInsecureAuth: true,
    disableReverseLookup: true,
    logger: false,
    ...(size !== undefined && { size }),
    onAuth: ({ username, password }, _, callback) => {
      if (username === auth?.user && password === auth?.pass) callback(null, { user: username ?? '' });
      else callback(Object.assign(new Error('5.7.8 Authentication credentials invalid'), { responseCode: 535 }));
    },
    onConnect: (_, callback) => react(peer.onConnect(), callback, callback),
    onRcptTo: ({ address }, _, callback) => react(peer.onRecipient(address), callback, callback),
    onData: (stream, session, callback) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', async () => {
        const raw = Buffer.concat(chunks);
        const mail = await simpleParser(raw);
        const { mailFrom, rcptTo } = session.envelope;
        const keep = () => {
          received.push({
            from: mailFrom ? mailFrom.address : '',
            to: rcptTo.map(({ address }) => address),
            user: session.user as string | undefined,
            secure: session.secure,
            mail,
            raw: raw.toString('utf8'),
          });
          callback(null, '2.0.0 Ok: queued');
        };
        const tooBig = stream.sizeExceeded ? { code: 552, text: '5.3.4 Message too big' } : undefined;
        react(tooBig ?? peer.onMessage(), keep, callback);
      });
    },
  });
  server.on('error', () => undefined); // clients that hang up are part of what is tested
  server.server.on('connection', (socket: Socket) => {
    opened += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));

  const peer: SmtpPeer = {
    host: '127.0.0.1',
    port: (server.server.address() as AddressInfo).port,
    received,
    onConnect: () => undefined,
    onRecipient: () => undefined,
    onMessage: () => undefined,
    connections: () => ({ opened, open: sockets.size }),
    dropConnections,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        dropConnections();
      }),
  };
  return peer;
}
