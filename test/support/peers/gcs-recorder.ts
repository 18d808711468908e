import { createHash, type KeyObject, verify } from 'node:crypto';
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

  /** Signed links, by the XML API (https://cloud.google.com/storage/docs/access-control/signed-urls). */
  function served(url: URL): Answer {
    const object = recorder.objects.get(decodeURIComponent(url.pathname.slice(`/${recorder.bucket}/`.length)));
    const problem = problemWithLink(url, publicKey);
    if (problem)
      return { status: problem === 'ExpiredToken' ? 400 : 403, body: `<Error><Code>${problem}</Code></Error>` };
    if (!object) return { status: 404, body: '<Error><Code>NoSuchKey</Code></Error>' };
    const disposition = url.searchParams.get('response-content-disposition') ?? '';
    return { headers: { 'content-disposition': disposition }, body: object.bytes.toString() };
  }

  /** Uploads in parts that are under way. */
  const sessions = new Map<string, { readonly metadata: Metadata; readonly parts: Buffer[] }>();

  function answer({ method, path, headers, bytes }: RecordedRequest): Answer {
    if (method === 'PUT' && path.startsWith('/session/')) return continued(path, headers['content-range'] ?? '', bytes);
    if (method === 'GET' && path.includes('X-Goog-Signature=')) return served(new URL(path, peer.origin));
    if (!headers.authorization?.startsWith('Bearer ya29.token-'))
      return gcsError(401, 'authError', 'Invalid Credentials');
    const url = new URL(path, peer.origin);
    const objects = `/storage/v1/b/${recorder.bucket}/o`;
    if (url.searchParams.get('uploadType') === 'resumable') {
      const session = `/session/${sessions.size}`;
      sessions.set(session, { metadata: JSON.parse(bytes.toString()) as Metadata, parts: [] });
      return { headers: { location: peer.origin + session } };
    }
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
    const metadata = JSON.parse(Buffer.from(bodyOf(first), 'latin1').toString('utf8')) as Metadata;
    return kept(metadata, Buffer.from(bodyOf(second), 'latin1'));
  }

  /** https://cloud.google.com/storage/docs/performing-resumable-uploads */
  function continued(path: string, range: string, bytes: Buffer): Answer {
    const session = sessions.get(path);
    const [, first, last, total] = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(range) ?? [];
    if (!session || total === undefined) return gcsError(404, 'notFound', 'There is no such session.');
    const have = session.parts.reduce((sum, part) => sum + part.length, 0);
    const isNext = first === undefined ? bytes.length === 0 : Number(first) === have;
    const isPart = total !== '*' || bytes.length % (256 * 1_024) === 0;
    if (!isNext || !isPart) return gcsError(400, 'invalid', 'This is not the part that comes next.');
    session.parts.push(bytes);
    if (total === '*') return { status: 308, headers: { range: `bytes=0-${last}` } };
    sessions.delete(path);
    return kept(session.metadata, Buffer.concat(session.parts));
  }

  function kept(metadata: Metadata, content: Buffer): Answer {
    const md5Hash = createHash('md5').update(content).digest('base64');
    if (metadata.md5Hash !== undefined && metadata.md5Hash !== md5Hash)
      return gcsError(400, 'invalid', 'Provided MD5 hash does not match calculated MD5 hash.');
    recorder.objects.set(metadata.name, { name: metadata.name, bytes: content, metadata, updated: new Date() });
    return { body: { kind: 'storage#object', ...metadata } };
  }
  return recorder;
}

/** Google's part of the V4 signing process, from the URL alone: whether this key has signed it, and for now. */
function problemWithLink(url: URL, publicKey: KeyObject): string | undefined {
  const { searchParams } = url;
  const time = searchParams.get('X-Goog-Date') ?? '';
  const iso = time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
  const [, ...scope] = (searchParams.get('X-Goog-Credential') ?? '').split('/');
  const pairs = url.search.slice(1).split('&');
  const query = pairs.filter((pair) => !pair.startsWith('X-Goog-Signature=')).sort();
  const canonical = `GET\n${url.pathname}\n${query.join('&')}\nhost:${url.host}\n\nhost\nUNSIGNED-PAYLOAD`;
  const digest = createHash('sha256').update(canonical).digest('hex');
  const text = Buffer.from(`GOOG4-RSA-SHA256\n${time}\n${scope.join('/')}\n${digest}`);
  const signature = Buffer.from(searchParams.get('X-Goog-Signature') ?? '', 'hex');
  if (!verify('sha256', text, publicKey, signature)) return 'SignatureDoesNotMatch';
  const endsAt = Date.parse(iso) + Number(searchParams.get('X-Goog-Expires')) * 1_000;
  return endsAt > Date.now() ? undefined : 'ExpiredToken';
}

interface Metadata {
  readonly name: string;
  readonly md5Hash?: string;
  readonly [field: string]: unknown;
}

/** The one form of the JSON API's refusals. */
export function gcsError(code: number, reason: string, message: string): Answer {
  return { status: code, body: { error: { code, message, errors: [{ domain: 'global', reason, message }] } } };
}
