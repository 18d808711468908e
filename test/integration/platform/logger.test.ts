import { describe, expect, it } from 'vitest';
import { createLogger, NestLogger } from '../../../src/platform/logger.js';

function capture(forPeople: boolean) {
  const lines: string[] = [];
  const logger = createLogger({ level: 'info', forPeople, stream: { write: (line) => lines.push(line) } });
  return { logger, lines };
}

describe('secrets', () => {
  it('are masked by name at any depth, in errors and in texts', () => {
    const { logger, lines } = capture(false);
    const error = Object.assign(new Error('no way to postgres://waybill:hush@db/x'), {
      config: { headers: { Authorization: 'Bearer hush' } },
    });
    logger
      .child({ apiKey: 'hush' })
      .info({ config: { smtp: { auth: { pass: 'hush' }, list: [{ client_secret: 'hush' }] } }, err: error }, 'a');
    logger.info('sent with Bearer hush-hush-hush');
    logger.info({ password: 'hush', accessToken: 'hush', host: 'mail.example', attempt: 3 });
    expect(lines.join('')).not.toContain('hush');
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ level: 'info', msg: 'a', err: { type: 'Error' } });
    expect(JSON.parse(lines[2] ?? '')).toMatchObject({ host: 'mail.example', attempt: 3, password: '[secret]' });
  });

  it('do not come in with the objects that an error carries', () => {
    const { logger, lines } = capture(false);
    const lost = Object.assign(new Error('lost'), {
      code: '57P01',
      client: new (class Client {
        key = 'hush';
      })(),
    });
    logger.warn({ err: new AggregateError([lost], 'all lost', { cause: lost }) });
    logger.warn({ err: lost });
    expect(lines.join('')).not.toContain('hush');
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ err: { message: 'lost', code: '57P01' } });
  });

  it('do not make ordinary fields disappear', () => {
    const { logger, lines } = capture(false);
    const fields = { idempotencyKey: 'k', author: 'a', when: new Date(0), url: 'https://example.com/x@y' };
    logger.info(fields);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ ...fields, when: '1970-01-01T00:00:00.000Z' });
  });
});

describe('for people', () => {
  it('writes one short line, with the stack of an error below', () => {
    const { logger, lines } = capture(true);
    logger.warn({ pid: 7, name: 'x' }, 'careful');
    logger.error({ err: new Error('broken') }, 'it broke');
    expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} WARN {2}careful pid=7 name=x\n$/);
    expect(lines[1]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} ERROR it broke\nError: broken\n {4}at /);
  });
});

describe('Nest', () => {
  it('writes to the same log', () => {
    const { logger, lines } = capture(false);
    const nest = new NestLogger(logger);
    nest.log('Mapped {/graphql, POST}', 'RoutesResolver');
    nest.error('broken', 'Error: broken\n    at here', 'ExceptionHandler');
    nest.debug('quiet', 'Injector');
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { level: 'info', msg: 'Mapped {/graphql, POST}', context: 'RoutesResolver' },
      { level: 'error', msg: 'broken', context: 'ExceptionHandler', stack: 'Error: broken\n    at here' },
    ]);
  });
});
