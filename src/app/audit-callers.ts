import { ACCESS_RECORDED } from '../audit/entry.js';
import type { CallerOf } from '../audit/trail.js';
import { type DataKeys, SealedFields, sealedParts } from '../event-store/sealed-fields.js';

/** Opens what an access says sealed of its caller. What older versions recorded lies open. */
export function callersWith(keys: DataKeys): CallerOf {
  const fields = new SealedFields(keys);
  return async ({ type, data, streamId, id }) => {
    if (type !== ACCESS_RECORDED) return null;
    const missing = keys.load((sealedParts(data) ?? []).map(({ key }) => key));
    if (missing) await missing;
    const { ip } = fields.open(type, data, { streamId, eventId: id, subject: '' });
    return typeof ip === 'string' ? ip : null;
  };
}
