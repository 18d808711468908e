import type { Answer } from './http-peer.js';
import { startRecorder } from './recorder.js';

/**
 * Answers as the documentation of Amazon SES v2 and Connect (JSON over REST) and SNS (the query protocol, XML) says. It looks at the
 * access key and the form of the signature; SigV4 itself is the SDK's.
 */
export const startAwsRecorder = (accessKeyId: string, region: string) => {
  /** Of Connect: the same ClientToken gives the contact that it has started. */
  const contacts = new Map<unknown, string>();
  return startRecorder<Readonly<Record<string, unknown>>>(({ method, path, headers, raw }, accept) => {
    const isQuery = path === '/';
    const signature = `AWS4-HMAC-SHA256 Credential=${accessKeyId}/`;
    if (!headers.authorization?.startsWith(signature) || !headers.authorization.includes(`/${region}/`)) {
      return isQuery
        ? snsError(403, 'InvalidClientTokenId', 'The security token included in the request is invalid.')
        : awsJsonError(403, 'UnrecognizedClientException', 'The security token included in the request is invalid.');
    }
    if (method === 'GET' && path === '/v2/email/account') return { body: { SendingEnabled: true } };
    if (path === '/v2/email/outbound-emails') {
      accept(JSON.parse(raw));
      return { body: { MessageId: `0102${Date.now()}-000000` } };
    }
    if (method === 'GET' && path.startsWith('/contact-flows/'))
      return { body: { ContactFlow: { Type: 'CONTACT_FLOW' } } };
    if (method === 'PUT' && path === '/contact/outbound-voice') {
      const call = JSON.parse(raw) as Record<string, unknown>;
      const known = contacts.get(call.ClientToken);
      if (known === undefined) accept(call);
      const ContactId = known ?? crypto.randomUUID();
      contacts.set(call.ClientToken, ContactId);
      return { body: { ContactId } };
    }
    const { Action: action, ...fields } = Object.fromEntries(new URLSearchParams(raw));
    if (action === 'Publish') accept(fields);
    else if (action !== 'GetSMSAttributes') return snsError(400, 'InvalidAction', 'no such action');
    const result = action === 'Publish' ? `<MessageId>${crypto.randomUUID()}</MessageId>` : '<attributes/>';
    const body = `<${action}Response xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><${action}Result>${result}</${action}Result></${action}Response>`;
    return { headers: { 'content-type': 'text/xml' }, body };
  });
};

/** Of the services that speak JSON over REST. */
export const awsJsonError = (status: number, type: string, message: string): Answer => ({
  status,
  headers: { 'x-amzn-errortype': type },
  body: { message },
});

export const snsError = (status: number, code: string, message: string): Answer => ({
  status,
  headers: { 'content-type': 'text/xml' },
  body: `<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>1</RequestId></ErrorResponse>`,
});
