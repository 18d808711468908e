import { verifyLog } from '../event-store/embedded-verify.js';
import { count, say, withProgress } from './log-output.js';

/** @param folder the log's own @throws Error, one line, when anything is wrong with the log */
export async function logVerify(folder: string, json: boolean): Promise<void> {
  const verification = await withProgress('verify', !json, (progress) => verifyLog(folder, progress));
  const { events, streams, problems, first } = verification;
  if (json) say(JSON.stringify({ ok: problems === 0, ...verification }));
  else {
    say(
      `${count(events, 'event')} in ${count(streams, 'stream')} checked${problems === 0 ? ': the log is whole' : ''}`,
    );
    for (const problem of first) say(`  ${problem}`);
    if (problems > first.length) say(`  … and ${problems - first.length} more`);
  }
  if (problems > 0) throw new Error(`The event log has ${count(problems, 'problem')}. The first: ${first[0]}`);
}
