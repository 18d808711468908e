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
    const { ready, parts, warnings } = await this.readiness.check();
    const answer = { parts, ...(warnings.length > 0 && { warnings }) };
    if (!ready) throw new ServiceUnavailableException({ status: 'not ready', ...answer });
    return { status: 'ready', ...answer };
  }
}
