import { describe, expect, it } from 'vitest';
import {
  type DestinationCommand,
  type DestinationDefinition,
  type DestinationEvent,
  type DestinationState,
  destination,
  hidden,
} from '../../src/domain/destination.js';
import { at, ORGANIZATION } from '../support/deliveries.js';
import { specification } from '../support/given.js';

const given = specification<DestinationState, DestinationCommand, DestinationEvent>(destination);

const definition: DestinationDefinition = {
  organizationId: ORGANIZATION,
  label: 'Billing',
  type: 'WEBHOOK',
  config: { webhook: { url: 'https://billing.example/hook', secret: hidden } },
  secrets: { 'webhook/secret': 'whsec_1' },
  isDefault: false,
};
const moved = { ...definition, config: { webhook: { url: 'https://new.example/hook', secret: hidden } } };
const rotated = { config: definition.config, secrets: { 'webhook/secret': 'whsec_2' } };

const created: DestinationEvent = { type: 'DestinationCreated', at: at(0), data: definition };
const disabled: DestinationEvent = { type: 'DestinationDisabled', at: at(1), data: { reason: 'HTTP_410' } };
const deleted: DestinationEvent = { type: 'DestinationDeleted', at: at(3), data: {} };

const create: DestinationCommand = { type: 'CreateDestination', now: at(0), definition };
const update: DestinationCommand = { type: 'UpdateDestination', now: at(2), definition: moved };
const rotate: DestinationCommand = { type: 'RotateDestinationSecret', now: at(2), ...rotated };
const disable: DestinationCommand = { type: 'DisableDestination', now: at(1), reason: 'HTTP_410' };
const enable: DestinationCommand = { type: 'EnableDestination', now: at(2) };
const circuit = { reason: '10 failures in a row', until: at(301), failingSince: at(0), failures: 10 };
const opened: DestinationEvent = { type: 'DestinationCircuitOpened', at: at(1), data: circuit };
const open: DestinationCommand = { type: 'OpenDestinationCircuit', now: at(1), circuit };
const close: DestinationCommand = { type: 'CloseDestinationCircuit', now: at(2) };
const remove: DestinationCommand = { type: 'DeleteDestination', now: at(3) };

describe('a destination', () => {
  it('is created once', () => {
    given().when(create).then(created);
    given(created).when(create).thenRejected('CONFLICT');
    given(created, deleted).when(create).thenRejected('CONFLICT');
  });

  it('is changed as a whole', () => {
    const verdict = given(created).when(update);
    verdict.then({ type: 'DestinationUpdated', at: at(2), data: moved });
    expect(verdict.state).toEqual({ tag: 'present', definition: moved });
  });

  it('stays on its channel', () => {
    const other: DestinationDefinition = { ...definition, type: 'EMAIL' };
    given(created)
      .when({ type: 'UpdateDestination', now: at(2), definition: other })
      .thenRejected('BAD_USER_INPUT', 'type');
  });

  it('gets new secrets without losing the rest', () => {
    const verdict = given(created).when(rotate);
    verdict.then({ type: 'DestinationSecretRotated', at: at(2), data: rotated });
    expect(verdict.state).toEqual({ tag: 'present', definition: { ...definition, ...rotated } });
  });

  it('is disabled once, and enabled once', () => {
    given(created).when(disable).then(disabled);
    given(created, disabled).when(disable).thenNothing();
    given(created, disabled)
      .when(enable)
      .then({ type: 'DestinationEnabled', at: at(2), data: {} });
    given(created).when(enable).thenNothing();
  });

  it('that is disabled is enabled by whoever repairs it, not by a new secret', () => {
    const repaired = given(created, disabled).when(update);
    repaired.then(
      { type: 'DestinationUpdated', at: at(2), data: moved },
      { type: 'DestinationEnabled', at: at(2), data: {} },
    );
    expect(repaired.state).toEqual({ tag: 'present', definition: moved });
    expect(given(created, disabled).when(rotate).state).toMatchObject({ tag: 'present', disabled: 'HTTP_410' });
  });

  it('is not called while its circuit is open; what two instances see is one fact', () => {
    given(created).when(open).then(opened);
    given(created, opened).when(open).thenNothing();
    given(created, opened)
      .when(close)
      .then({ type: 'DestinationCircuitClosed', at: at(2), data: {} });
    given(created).when(close).thenNothing();
    expect(given(created, opened).state).toEqual({ tag: 'present', definition, circuit });
  });

  it.each<[string, DestinationCommand]>([
    ['updated', update],
    ['enabled', enable],
    ['found to work', close],
  ])('that is %s has a closed circuit', (_, command) => {
    expect(given(created, disabled, opened).when(command).state).not.toHaveProperty('circuit');
  });

  it('stays disabled when its circuit turns', () => {
    expect(given(created, disabled, opened).state).toMatchObject({ disabled: 'HTTP_410', circuit });
    expect(given(created, disabled, opened).when(close).state).toMatchObject({ disabled: 'HTTP_410' });
  });

  it('is deleted, with what it was kept for the record', () => {
    const verdict = given(created).when(remove);
    verdict.then(deleted);
    expect(verdict.state).toEqual({ tag: 'deleted', definition });
  });

  it.each<[string, DestinationEvent[]]>([
    ['never created', []],
    ['deleted', [created, deleted]],
  ])('that was %s is not there', (_, history) => {
    for (const command of [update, rotate, disable, enable, open, close, remove])
      given(...history)
        .when(command)
        .thenRejected('NOT_FOUND');
  });

  it('that was never created cannot have a history', () => {
    expect(() => given(deleted)).toThrow('never created');
  });
});
