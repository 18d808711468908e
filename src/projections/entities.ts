import { AttemptEntity } from './attempts-query.js';
import { DeliveryEntity } from './delivery-entity.js';
import { DestinationEntity, DestinationHealthEntity } from './destinations-query.js';
import { InboxEntity } from './inbox-query.js';
import { SuppressionEntity } from './suppressions-query.js';

/** What the TypeORM data source has to know. */
export const entities = [
  DeliveryEntity,
  AttemptEntity,
  DestinationEntity,
  DestinationHealthEntity,
  SuppressionEntity,
  InboxEntity,
];
