import { type Answer, type HttpPeer, type Reaction, type RecordedRequest, startHttpPeer } from './http-peer.js';

interface Body extends Record<string, unknown> {
  readonly channel_id?: string;
  readonly thread_ts?: string;
  readonly files?: readonly { readonly id: string; readonly title: string }[];
}

export interface SlackRecorder extends HttpPeer {
  /** What chat.postMessage was given. */
  readonly posted: Record<string, unknown>[];
  /** `ts` of each. */
  readonly times: string[];
  readonly files: { title: string; text: string; channel: string; thread: string }[];
  /** Answers instead of Slack; undefined lets the request through. */
  respond: (request: RecordedRequest) => Reaction | undefined;
}

/** Answers as Slack's Web API is documented to (https://docs.slack.dev/reference/methods). */
export async function startSlackRecorder(token: string): Promise<SlackRecorder> {
  const peer = await startHttpPeer((request) => recorder.respond(request) ?? answer(request));
  const uploads = new Map<string, string>();
  const recorder: SlackRecorder = Object.assign(peer, { posted: [], times: [], files: [], respond: () => undefined });

  function answer({ path, headers, raw }: RecordedRequest): Answer {
    if (path.startsWith('/upload/')) {
      uploads.set(path.slice('/upload/'.length), raw);
      return { body: 'OK' };
    }
    if (headers.authorization !== `Bearer ${token}`) return slackError('invalid_auth');
    const method = path.slice('/api/'.length);
    if (method === 'auth.test') return { body: { ok: true, team: 'Hospital', user: 'waybill' } };
    if (method === 'files.getUploadURLExternal') {
      const id = `F${uploads.size}`;
      if (!new URLSearchParams(raw).get('length')) return slackError('invalid_arguments');
      return { body: { ok: true, upload_url: `${peer.origin}/upload/${id}`, file_id: id } };
    }
    const body = JSON.parse(raw) as Body;
    if (method === 'chat.postMessage') {
      if (!body.text && !body.blocks) return slackError('no_text');
      const ts = `${1_700_000_000 + recorder.posted.length}.000100`;
      recorder.posted.push(body);
      recorder.times.push(ts);
      return { body: { ok: true, channel: body.channel, ts } };
    }
    if (method === 'files.completeUploadExternal') {
      for (const { id, title } of body.files ?? []) {
        recorder.files.push({
          title,
          text: uploads.get(id) ?? '',
          channel: body.channel_id ?? '',
          thread: body.thread_ts ?? '',
        });
      }
      return { body: { ok: true } };
    }
    return slackError('unknown_method');
  }
  return recorder;
}

/** Slack refuses with status 200. */
export const slackError = (error: string): Answer => ({ body: { ok: false, error } });
