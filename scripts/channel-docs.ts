/**
 * Writes docs/channels/: a page for each provider, made of its adapter's schema and of an example in examples.json.
 *
 *     npm run docs:channels
 */
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ChannelAdapter, Idempotency } from '../src/channels/channel.js';
import { type ConfigField, fieldsOf } from '../src/channels/config-fields.js';
import { categoryOf } from '../src/channels/net/http.js';
import { createChannels } from '../src/channels/registry.js';
import { ERROR_CATEGORIES as CATEGORIES, type JsonObject } from '../src/domain/vocabulary.js';

export const FOLDER = fileURLToPath(new URL('../docs/channels/', import.meta.url));

/** The value under the channel's key in `config`, by the name of the page. */
export const examples = JSON.parse(readFileSync(join(FOLDER, 'examples.json'), 'utf8')) as Record<string, JsonObject>;

const IDEMPOTENCY: Readonly<Record<Idempotency, string>> = {
  keyed: 'Attempts carry a key by which the receiver recognises a repetition.',
  natural: 'An attempt that is repeated writes the same file again.',
  none: 'The provider cannot tell a repetition, so every attempt is recorded before it is made.',
};

/** Every page by its file name. */
export async function pages(): Promise<Map<string, string>> {
  const { registry, close } = createChannels({ allowedNetworks: [] });
  await close();
  const { adapters } = registry;
  const all = new Map<string, string>();
  for (const adapter of adapters) {
    const name = nameOf(adapter, adapters);
    all.set(`${name}.md`, pageOf(name, adapter));
  }
  return all.set('README.md', indexOf(adapters));
}

/** Of a page: the provider's, with the channel where an earlier adapter has that name. */
export function nameOf(adapter: ChannelAdapter, adapters: readonly ChannelAdapter[]): string {
  const { provider, configKey } = adapter.describe();
  const first = adapters.find((each) => each.describe().provider === provider);
  return first === adapter ? provider : `${provider}-${configKey}`;
}

function pageOf(name: string, adapter: ChannelAdapter): string {
  const { channel, configKey, idempotency, inDoubt, limits, tested } = adapter.describe();
  const example = JSON.stringify({ label: name, type: channel, config: { [configKey]: examples[name] } }, null, 2);
  const facts = [
    `- Channel \`${channel}\`, configuration under \`config.${configKey}\`.`,
    `- ${IDEMPOTENCY[idempotency]}`,
    ...(idempotency === 'none'
      ? [
          `- After a crash an attempt in doubt is ${inDoubt === 'hold' ? 'held for a person' : 'sent again'}, unless the configuration says otherwise.`,
        ]
      : []),
    `- What a test of the destination does: ${tested}`,
    `- A message has at most ${limits.maxBytes.toLocaleString('en')} bytes; an attempt takes at most ${limits.timeoutMs.toLocaleString('en')} ms.`,
  ];
  return `# ${name}

<!-- Made by npm run docs:channels; changes belong into the adapter's schema and examples.json. -->

${facts.join('\n')}

## Example

The input of \`createDestination\`:

\`\`\`json
${example}
\`\`\`

## Fields of \`config.${configKey}\`

| field | type | required | default | what it is |
| --- | --- | --- | --- | --- |
${fieldsOf(adapter.schema).map(rowOf).join('\n')}
${errorsOf(adapter)}`;
}

function errorsOf({ errors }: ChannelAdapter): string {
  if (!errors) return '';
  const { source, categories } = errors;
  const rows = CATEGORIES.flatMap((category) => {
    const codes = Object.keys(categories).filter((code) => categories[code] === category);
    return codes.length === 0 ? [] : [`| ${category} | ${codes.map((code) => `\`${code}\``).join(', ')} |`];
  });
  return `
## Errors

What these answers are taken for ([the provider's documentation](${source})); every other one as [everywhere](README.md#errors).

| category | codes |
| --- | --- |
${rows.join('\n')}
`;
}

function rowOf(field: ConfigField): string {
  const { path, type, description, isRequired, isSecret, values } = field;
  const shown = field.default === undefined ? '' : `\`${JSON.stringify(field.default)}\``;
  const choice = values ? ` One of ${values.map((value) => `\`${value}\``).join(', ')}.` : '';
  const words = `${description}${choice}${isSecret ? ' Secret: never shown again.' : ''}`.replaceAll('|', '\\|');
  return `| \`${path}\` | ${type} | ${isRequired ? 'yes' : ''} | ${shown} | ${words} |`;
}

function indexOf(adapters: readonly ChannelAdapter[]): string {
  const rows = adapters.map((adapter) => {
    const { channel, provider } = adapter.describe();
    return `| ${channel} | [${provider}](${nameOf(adapter, adapters)}.md) |`;
  });
  const without = adapters
    .filter(({ schema }) => !fieldsOf(schema).some(({ path }) => path === 'proxy'))
    .map((adapter) => `\`${nameOf(adapter, adapters)}\``)
    .sort();
  return `# Channels and providers

<!-- Made by npm run docs:channels. -->

| channel | provider |
| --- | --- |
${rows.sort().join('\n')}

## Proxies

\`proxy\` beside a provider's other fields leads all its connections through an HTTP proxy by CONNECT (RFC 9110, 9.3.6): HTTP and
HTTP/2, and with SMTP and SFTP the TCP connection too. The proxy is reached by \`http\` or \`https\`, with a login (Basic) where it
wants one. It is told the address that Waybill has resolved and judged, never the name, so a proxy that refuses addresses
cannot be used; its own address is judged like any other. TLS and SSH run inside the tunnel, to the provider itself.
${without.join(', ')} have none: they call nobody.

## Errors

A refusal has one of these categories; NETWORK is no answer, SYSTEM a defect of ours.
Codes of the provider's own, on its page, go before its status.

| category | statuses of HTTP answers |
| --- | --- |
${statuses()}

An address that may not be reached and a proxy that refuses to connect are CONFIGURATION.

A provider of your own is one file and one line: [writing an adapter](writing-an-adapter.md).
`;
}

/** What is PERMANENT is the rest. */
function statuses(): string {
  const ranges: { first: number; last: number; category: string }[] = [];
  for (let status = 300; status < 600; status += 1) {
    const category = categoryOf(status);
    const range = ranges.at(-1);
    if (range?.category === category) range.last = status;
    else ranges.push({ first: status, last: status, category });
  }
  const shown = ({ first, last }: { first: number; last: number }) => (first === last ? first : `${first} to ${last}`);
  return CATEGORIES.flatMap((category) => {
    const own = ranges.filter((range) => range.category === category);
    if (own.length === 0) return [];
    return [`| ${category} | ${category === 'PERMANENT' ? 'every other' : own.map(shown).join(', ')} |`];
  }).join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await mkdir(FOLDER, { recursive: true });
  for (const [name, text] of await pages()) await writeFile(join(FOLDER, name), text);
}
