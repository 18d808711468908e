import { type Command, Option } from 'commander';
import { say } from './log-output.js';

/** `waybill completion`: a script for the shell, made from the commands there are. */
export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description('print a completion script: source <(waybill completion bash)')
    .argument('<shell>', 'bash or zsh')
    .action((shell: string) => {
      if (shell !== 'bash' && shell !== 'zsh') throw new Error('There are scripts for bash and zsh.');
      // zsh understands bash's own once it is told to.
      if (shell === 'zsh') say('autoload -U +X bashcompinit && bashcompinit');
      say(bashScript(program));
    });
}

function bashScript(program: Command): string {
  const cases = [...wordsOf(program, '')].map(([path, words]) => `    '${path}') words='${words.join(' ')}' ;;`);
  return `_waybill() {
  local word path='' words=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) path="$path $word" ;; esac
  done
  while :; do
    case "$path" in
${cases.map((line) => `  ${line}`).join('\n')}
    esac
    # An argument is no command: what stands before it says what may follow.
    if [ -n "$words" ] || [ -z "$path" ]; then break; fi
    path="\${path% *}"
  done
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _waybill waybill`;
}

/** What may follow each command: its commands, or its options. */
function* wordsOf(command: Command, path: string): Generator<[string, string[]]> {
  const help = new Option('-h, --help');
  const options = [...command.options, help].flatMap(({ long }) => (long ? [long] : []));
  yield [path, [...command.commands.flatMap((inner) => [inner.name(), ...inner.aliases()]), ...options]];
  for (const inner of command.commands)
    for (const name of [inner.name(), ...inner.aliases()]) yield* wordsOf(inner, `${path} ${name}`);
}
