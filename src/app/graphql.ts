import { readFileSync } from 'node:fs';
import { type DynamicModule } from '@nestjs/common';
import { GraphQLModule } from '@nestjs/graphql';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import { AccessDirectory } from '../commands/access-directory.js';
import { accessId } from '../commands/ids.js';
import { IDENTITY, isLive, permissionsOf } from '../domain/access.js';
import { isOrganization } from '../domain/vocabulary.js';
import { guardOperations } from '../graphql/access-guard.js';
import { Authentication } from '../graphql/authentication.js';
import { errorFormatter } from '../graphql/errors.js';
import { listFieldsQuickly } from '../graphql/input-types.js';
import { LiveSockets } from '../graphql/live-sockets.js';
import { guardQueries, guardSubscriptions } from '../graphql/query-limits.js';
import { ApiKeys } from '../security/api-keys.js';
import { AdminKey, Authenticator } from '../security/authenticator.js';
import { InboxTokens } from '../security/inbox-tokens.js';
import { RateLimits } from '../security/rate-limits.js';
import { Tokens } from '../security/tokens.js';
import { accessLogOf, type Infrastructure } from './infrastructure.js';

/** Who may come in: API keys, the administrator's key, tokens of inboxes and of OIDC issuers. */
export function authenticationOf(
  infrastructure: Infrastructure,
  accesses: AccessDirectory,
  sockets: LiveSockets,
  inboxTokens: InboxTokens,
): Authentication {
  const { config, adminKey, logger } = infrastructure;
  const access = logger.child({ part: 'access' });
  const accessLog = accessLogOf(infrastructure);
  const { maxFailures, failureWindowSeconds } = config.auth;
  const rules = { permissionsOf, isLive };
  const tokens = new Tokens(config.auth.oidc, {
    ...{ accesses, rules, streamOf: accessId, isOrganization, isIdentity: (text) => IDENTITY.test(text) },
    warn: (message) => access.warn(message),
  });
  const authenticator = new Authenticator([new ApiKeys(accesses, rules), new AdminKey(adminKey), inboxTokens, tokens], {
    maxFailures,
    windowSeconds: failureWindowSeconds,
  });
  return new Authentication(authenticator, accessLog, sockets, new RateLimits(config.limits.requestsPerMinute));
}

/** The API, guarded. */
export function graphql({ config, logger }: Infrastructure, authentication: Authentication): DynamicModule {
  return GraphQLModule.forRoot<MercuriusDriverConfig>({
    driver: MercuriusDriver,
    typeDefs: readFileSync(new URL('../graphql/schema.graphql', import.meta.url), 'utf8'),
    transformSchema: (schema) => listFieldsQuickly(guardOperations(schema)),
    path: '/graphql',
    context: authentication.http,
    subscription: { onConnect: authentication.connect as never, fullWsTransport: true },
    queryDepth: config.limits.maxQueryDepth,
    errorFormatter: errorFormatter((error) => {
      const reference = Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
      logger.error({ err: error, reference }, 'a request failed unexpectedly');
      return reference;
    }) as never,
    hooks: {
      preParsing: authentication.guard,
      preSubscriptionParsing: authentication.guard,
      preSubscriptionExecution: guardSubscriptions(config.limits),
      preExecution: guardQueries({ ...config.limits, introspection: config.introspection }),
    },
    graphiql: false,
  });
}
