import type { FastifyInstance, FastifyRequest } from 'fastify';

/**
 * mercurius makes the variables of a request into the types of the schema twice: once to check them, and again to run
 * with them. For a bulk of deliveries that is most of what GraphQL costs. So they are kept aside until the query is about
 * to run, and what is wrong with them is found then, once.
 */
const aside = Symbol('variables');

export type Variables = Readonly<Record<string, unknown>>;

interface WithVariables extends FastifyRequest {
  [aside]?: Variables | undefined;
}

export function keepVariablesAside(server: FastifyInstance): void {
  server.addHook('preHandler', (request: WithVariables, _reply, done) => {
    const body = request.body as { query?: unknown; variables?: unknown } | null | undefined;
    if (typeof body?.query === 'string' && isObject(body.variables)) {
      request[aside] = body.variables;
      body.variables = undefined;
    }
    done();
  });
}

/** Of the request that a hook's context belongs to, once: the request itself is kept until the next one on its connection. */
export function takeVariables(context: unknown): Variables | undefined {
  const { request } = (context as { reply?: { request?: WithVariables } }).reply ?? {};
  const variables = request?.[aside];
  if (variables) request[aside] = undefined;
  return variables;
}

const isObject = (value: unknown): value is Variables => typeof value === 'object' && value !== null;
