import type { WaybillProcess } from '../test/support/waybill-process.js';
import type { BenchReceiver } from './receiver.js';

/** What is delivered, and where to. */

/** The receiver's destination, each phase in an organization of its own so that its deliveries can be counted. */
export interface Load {
  readonly waybill: WaybillProcess;
  readonly receiver: BenchReceiver;
  readonly organizationId: string;
  readonly destinationId: string;
  /** What a delivery ends as. Default DELIVERED. */
  readonly settled?: 'SENT';
  /** Default NORMAL. */
  readonly priority?: 'URGENT';
}

const BODY_BYTES = 500;
const EMPTY = { type: 'bench.event', number: '', padding: '' };
const NUMBER_DIGITS = 10;
const PADDING = 'x'.repeat(BODY_BYTES - JSON.stringify(EMPTY).length - NUMBER_DIGITS);

/** An event of 500 bytes as JSON. */
export const payload = (number: number) => ({
  ...EMPTY,
  number: String(number).padStart(NUMBER_DIGITS, '0'),
  padding: PADDING,
});

export async function prepareLoad(
  waybill: WaybillProcess,
  receiver: BenchReceiver,
  organizationId: string,
): Promise<Load> {
  await receiver.forget();
  const input = {
    organizationId,
    label: 'Bench receiver',
    type: 'WEBHOOK',
    config: { webhook: { url: `${receiver.origin}/hook` } },
  };
  const { createDestination } = await waybill.ask<{ createDestination: { id: string } }>(
    'mutation ($input: DestinationInput!) { createDestination(input: $input) { id } }',
    { input },
  );
  return { waybill, receiver, organizationId, destinationId: createDestination.id };
}

export const requestInput = ({ organizationId, destinationId, priority }: Load, number: number) => ({
  organizationId,
  ...(priority && { priority }),
  to: [{ destinationId }],
  content: { data: payload(number) },
});
