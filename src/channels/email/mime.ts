import { streamOf } from '../files/file-sources.js';
import type { ComposedEmail } from './compose.js';

/** A composed e-mail as nodemailer takes it (RFC 5322, MIME). */
export function mimeOf({
  from,
  to,
  cc,
  bcc,
  replyTo,
  subject,
  text,
  html,
  attachments,
  headers,
  messageId,
}: ComposedEmail) {
  return {
    from: { name: from.name ?? '', address: from.address },
    to: [...to],
    cc: [...cc],
    bcc: [...bcc],
    ...(replyTo !== undefined && { replyTo }),
    subject,
    messageId: `<${messageId}>`,
    ...(text !== undefined && { text }),
    ...(html !== undefined && { html }),
    headers: headers.map(([key, value]) => ({ key, value })),
    attachments: attachments.map((file) => ({
      filename: file.filename,
      contentType: file.contentType,
      ...('source' in file
        ? { content: file.source.held ?? streamOf(file.source) }
        : { content: file.base64, encoding: 'base64' }),
      ...(file.contentId !== undefined && { cid: file.contentId }),
    })),
  };
}

/** The bytes of the message, without the blind copies in its header. */
export async function rawMessage(mail: ComposedEmail, date: Date): Promise<Buffer> {
  const { createTransport } = await import('nodemailer');
  const transport = createTransport({ streamTransport: true, buffer: true, newline: 'windows' });
  const { message } = await transport.sendMail({
    ...mimeOf(mail),
    date,
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return message as Buffer;
}
