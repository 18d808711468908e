import { Controller, Get, HttpCode, HttpStatus, ServiceUnavailableException } from '@nestjs/common';
import { Readiness } from './readiness.js';

@Controller()
export class HealthController {
  constructor(private readonly readiness: Readiness) {}

  /** Alive: the process answers. Whether it can do its work is what /ready says. */
  @Get('health')
  health() {
    return { status: 'ok' };
  }

  @Get('ready')
  @HttpCode(HttpStatus.OK)
  async ready() {
    const { ready, parts } = await this.readiness.check();
    if (!ready) throw new ServiceUnavailableException({ status: 'not ready', parts });
    return { status: 'ready', parts };
  }
}
