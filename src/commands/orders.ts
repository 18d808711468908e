import { Command, CommandHandler, type ICommandHandler } from '@nestjs/cqrs';
import { type AccessCommand, type AccessEvent, type AccessState, access } from '../domain/access.js';
import { delivery } from '../domain/delivery.js';
import type { DeliveryCommand } from '../domain/delivery-commands.js';
import type { DeliveryEvent } from '../domain/delivery-events.js';
import type { DeliveryState } from '../domain/delivery-state.js';
import {
  type DestinationCommand,
  type DestinationEvent,
  type DestinationState,
  destination,
} from '../domain/destination.js';
import { CommandExecutor, type ExecuteResult, type Order } from './executor.js';

/**
 * The doorway: whoever wants something of a delivery sends it through the CommandBus as one of these. The table of
 * what can be asked is the command union of each aggregate; a command without a row in `decide` does not compile.
 */
export class DeliveryOrders extends Command<ExecuteResult<DeliveryState, DeliveryEvent>[]> {
  constructor(readonly orders: readonly Order<DeliveryState, DeliveryCommand>[]) {
    super();
  }
}

export class DestinationOrder extends Command<ExecuteResult<DestinationState, DestinationEvent>> {
  constructor(readonly order: Order<DestinationState, DestinationCommand>) {
    super();
  }
}

export class AccessOrder extends Command<ExecuteResult<AccessState, AccessEvent>> {
  constructor(readonly order: Order<AccessState, AccessCommand>) {
    super();
  }
}

@CommandHandler(DeliveryOrders)
export class DeliveryOrdersHandler implements ICommandHandler<DeliveryOrders> {
  constructor(private readonly executor: CommandExecutor) {}

  execute({ orders }: DeliveryOrders): Promise<ExecuteResult<DeliveryState, DeliveryEvent>[]> {
    return this.executor.executeMany(delivery, orders);
  }
}

@CommandHandler(DestinationOrder)
export class DestinationOrderHandler implements ICommandHandler<DestinationOrder> {
  constructor(private readonly executor: CommandExecutor) {}

  execute({ order }: DestinationOrder): Promise<ExecuteResult<DestinationState, DestinationEvent>> {
    return this.executor.execute(destination, order);
  }
}

@CommandHandler(AccessOrder)
export class AccessOrderHandler implements ICommandHandler<AccessOrder> {
  constructor(private readonly executor: CommandExecutor) {}

  execute({ order }: AccessOrder): Promise<ExecuteResult<AccessState, AccessEvent>> {
    return this.executor.execute(access, order);
  }
}
