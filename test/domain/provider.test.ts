import { expect, it } from 'vitest';
import { type ProviderCommand, type ProviderEvent, type ProviderState, provider } from '../../src/domain/provider.js';
import { at } from '../support/deliveries.js';
import { specification } from '../support/given.js';

const given = specification<ProviderState, ProviderCommand, ProviderEvent>(provider);

const circuit = { reason: '10 failures in a row', until: at(301), failingSince: at(0), failures: 10 };
const opened: ProviderEvent = {
  type: 'ProviderCircuitOpened',
  at: at(1),
  data: { name: 'main', channel: 'EMAIL', ...circuit },
};
const closed: ProviderEvent = { type: 'ProviderCircuitClosed', at: at(2), data: { name: 'main' } };
const open = { type: 'OpenProviderCircuit', now: at(1), name: 'main', channel: 'EMAIL', circuit } as const;
const close = { type: 'CloseProviderCircuit', now: at(2), name: 'main' } as const;

it('a provider’s circuit is opened and closed once, however many instances see it', () => {
  given().when(open).then(opened);
  given(opened).when(open).thenNothing();
  given(opened).when(close).then(closed);
  given().when(close).thenNothing();
  expect(given(opened).state).toEqual({ circuit });
  given(opened, closed).when(open).then(opened);
});
