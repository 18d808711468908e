import type { KeyObject } from 'node:crypto';
import { googleTokens } from './google-tokens.js';
import { type Answer, type HttpPeer, type Reaction, type RecordedRequest, startHttpPeer } from './http-peer.js';

export interface GcsObject {
  readonly name: string;
  readonly bytes: Buffer;
  readonly metadata: Readonly<Record<string, unknown>>;
  updated: Date;
}

export interface GcsRecorder extends HttpPeer {
  readonly bucket: string;
  readonly objects: Map<string, GcsObject>;
  /** Tokens given so far. */
  tokens(): number;
  /** Answers instead of Google, except for tokens; undefined lets the request through. */
  respond: (request: RecordedRequest) => Reaction | undefined;
}

/**
 * Answers as Cloud Storage's JSON API and Google's token endpoint are documented to
 * (https://cloud.google.com/storage/docs/json_api/v1, https://developers.google.com/identity/protocols/oauth2/service-account).
 */
export async function startGcsRecorder(publicKey: KeyObject): Promise<GcsRecorder> {
  const tokens = googleTokens(publicKey);
  const peer = await startHttpPeer((request) =>
    request.path === '/token' ? tokens.answer(request) : (recorder.respond(request) ?? answer(request)),
  );
  const recorder: GcsRecorder = Object.assign(peer, {
    bucket: 'archive',
    objects: new Map<string, GcsObject>(),
    tokens: () => tokens.given,
    respond: () => undefined,
  });

  function answer({ method, path, headers, bytes }: RecordedRequest): Answer {
    if (!headers.authorization?.startsWith('Bearer ya29.token-'))
      return gcsError(401, 'authError', 'Invalid Credentials');
    const url = new URL(path, peer.origin);
    const objects = `/storage/v1/b/${recorder.bucket}/o`;
    if (method === 'POST' && url.pathname === `/upload${objects}`) return stored(headers['content-type'] ?? '', bytes);
    if (method === 'GET' && url.pathname === `/storage/v1/b/${recorder.bucket}`)
      return { body: { kind: 'storage#bucket' } };
    if (method === 'GET' && url.pathname === objects) {
      const items = [...recorder.objects.values()].filter(({ name }) =>
        name.startsWith(url.searchParams.get('prefix') ?? ''),
      );
      return { body: { items: items.map(({ name, updated }) => ({ name, updated: updated.toISOString() })) } };
    }
    if (method === 'DELETE' && recorder.objects.delete(decodeURIComponent(url.pathname.slice(objects.length + 1)))) {
      return { status: 204 };
    }
    return gcsError(404, 'notFound', 'The specified bucket does not exist.');
  }

  function stored(type: string, bytes: Buffer): Answer {
    const boundary = /boundary=(.+)$/.exec(type)?.[1];
    const [, first = '', second = ''] = bytes.toString('latin1').split(`--${boundary}`);
    const bodyOf = (part: string) => part.slice(part.indexOf('\r\n\r\n') + 4, -2);
    const metadata = JSON.parse(Buffer.from(bodyOf(first), 'latin1').toString('utf8')) as { name: string };
    const content = Buffer.from(bodyOf(second), 'latin1');
    recorder.objects.set(metadata.name, { name: metadata.name, bytes: content, metadata, updated: new Date() });
    return { body: { kind: 'storage#object', ...metadata } };
  }
  return recorder;
}

/** The one form of the JSON API's refusals. */
export function gcsError(code: number, reason: string, message: string): Answer {
  return { status: code, body: { error: { code, message, errors: [{ domain: 'global', reason, message }] } } };
}
