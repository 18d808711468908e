import { nameOf } from './clients.js';
import type { Fate, Plan, PlannedRequest, PlannedStep } from './plan.js';

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(3)} s`;
const instanceName = (index: number): string => 'ABC'[index] as string;

/** What a plan does, a line for each thing. */
export function describePlan({ steps, ...plan }: Plan): string[] {
  const { instances, isAlone, doubtful, concurrency, failureThreshold, checkpointIntervalMs } = plan;
  const destinations = plan.destinations.map(
    ({ channel, retry }, index) => `${index} ${channel} ×${retry.maxAttempts}`,
  );
  return [
    `${instances} instance(s)${isAlone ? ' that is alone' : ''}, ${concurrency} attempts at once, checkpoints every ${checkpointIntervalMs} ms, circuits open after ${failureThreshold} failures, the database’s clock ${Math.round(plan.databaseAheadMs)} ms ahead, ${doubtful * 100} % of calls in doubt`,
    `destinations: ${destinations.join(', ')}`,
    ...steps.map((step) => `${seconds(step.atMs).padStart(11)}  ${describeStep(step)}`),
  ];
}

function describeStep(step: PlannedStep): string {
  switch (step.do) {
    case 'request':
      return describeRequest(step);
    case 'request again':
      return `request ${nameOf(step.delivery)} again${step.isSame ? '' : ', with another body'}`;
    case 'cancel':
    case 'approve':
    case 'reject':
    case 'retry':
    case 'say it was sent':
    case 'say it was not sent':
    case 'poison':
      return `${step.do} ${nameOf(step.delivery)}`;
    case 'enable':
    case 'disable':
      return `${step.do} destination ${step.destination}`;
    case 'truncate':
      return 'empty the table engine_deliveries';
    case 'crash':
      return `kill ${instanceName(step.instance)}; back after ${seconds(step.backAfterMs)} as ${step.isSameOwner ? 'itself' : 'another'}`;
    case 'shut down':
      return `shut down ${instanceName(step.instance)}; back after ${seconds(step.backAfterMs)}`;
    case 'stop':
      return `stop ${instanceName(step.instance)} for ${seconds(step.forMs)}`;
    case 'clock jump':
      return `the clock of ${instanceName(step.instance)} jumps by ${seconds(step.byMs)} for ${seconds(step.forMs)}`;
    case 'disturb':
      return `subscriptions of ${instanceName(step.instance)}: ${step.how}`;
    case 'stall':
      return `subscriptions of ${instanceName(step.instance)} hear nothing for ${seconds(step.forMs)}`;
    case 'weather': {
      const whose = step.instance === undefined ? 'the' : `${instanceName(step.instance)}’s`;
      const lost = step.lostReplies > 0 ? `${step.lostReplies * 100} % of replies lost` : undefined;
      const what = step.isDown ? 'is out of reach' : `has ${lost ?? `up to ${step.slowMs} ms of delay`}`;
      return `${whose} ${step.of} ${what} for ${seconds(step.forMs)}`;
    }
  }
}

function describeRequest(request: PlannedRequest): string {
  const legs = request.legs.map((routes) =>
    routes
      .map(({ channel, destination, fates }) => {
        const target = destination === undefined ? channel : `destination ${destination}`;
        return fates.length === 0 ? target : `${target} (${fates.map(describeFate).join(', ')})`;
      })
      .join(' else '),
  );
  const { scheduledInMs, expiresInMs, approval, dependsOn, hasKey } = request;
  const wishes = [
    scheduledInMs === undefined ? [] : `in ${seconds(scheduledInMs)}`,
    expiresInMs === undefined ? [] : `until ${seconds(expiresInMs)} from now`,
    approval ? `after ${approval.minimum} approval(s) within ${approval.timeoutSeconds ?? 'any number of'} s` : [],
    dependsOn.length === 0 ? [] : `after ${dependsOn.map(nameOf).join(' and ')}`,
    hasKey ? [] : 'without a key',
  ].flat();
  return [`request ${nameOf(request.delivery)}, ${request.priority}: ${legs.join(' and ')}`, ...wishes].join('; ');
}

function describeFate(fate: Fate): string {
  if (fate.does === 'accept') return `accepts after ${Math.round(fate.afterMs)} ms`;
  if (fate.does !== 'refuse') return `${fate.does}${fate.accepts ? ' having accepted' : ''}`;
  const wish = fate.retryAfterMs === undefined ? '' : `, retry after ${fate.retryAfterMs} ms`;
  return `${fate.category}${wish}${fate.gone ? ', gone' : ''} after ${Math.round(fate.afterMs)} ms`;
}
