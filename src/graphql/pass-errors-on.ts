import { Catch, type ExceptionFilter } from '@nestjs/common';

/**
 * Gives what a resolver throws to GraphQL as it is. Nest's own filter would log every expected failure, stack and all,
 * before it does the same; what is unexpected is logged once, by the error formatter.
 */
@Catch()
export class PassErrorsOn implements ExceptionFilter {
  catch(error: unknown): unknown {
    return error;
  }
}
