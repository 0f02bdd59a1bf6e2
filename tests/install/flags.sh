#!/usr/bin/env bash
# flags.sh PROGRAM SOURCE: every command and option that PROGRAM prints in its help is in the manual
# page and in the completions of each shell, and these offer no command the program does not have.
set -euo pipefail
program=$1 source=$2
status=0
complain() {
  echo "$1" >&2
  status=1
}

# The lines of the manual page from section $1 to the next one, and those of the shared options.
manual() {
  sed 's/\\//g' "$source/docs/elan-sr.1" |
    awk -v section="$1" '/^[.]SH/ { wanted = ($0 == ".SH " section || $0 == ".SH ENGINE OPTIONS") } wanted'
}

# What bash offers after `elan-sr $1 $2`.
offered_by_bash() {
  bash -c 'source "$1/completions/elan-sr.bash"
    COMP_WORDS=(elan-sr "${@:2}") COMP_CWORD=$(($# - 1))
    _elan_sr
    printf "%s\n" "${COMPREPLY[@]}"' bash "$source" "$@"
}

# The options zsh knows for command $1: its own array and, where it takes them in, the shared one.
zsh_options() {
  awk -v name="  $1=(" '
    /^  engine=\($/ { engine = 1 }
    $0 == name { own = 1 }
    engine { shared = shared $0 "\n" }
    own { text = text $0 "\n" }
    /^  \)$/ { engine = own = 0 }
    END { printf "%s", text; if (text ~ /\$engine/) printf "%s", shared }' "$source/completions/_elan-sr"
}

# The completions fish has for command $1.
fish_options() {
  local shared=
  [[ " upscale bench eval compare tune " == *" $1 "* ]] && shared='|elan_sr_runs_a_model'
  grep -E "^complete -c elan-sr (-s|-n '?__(elan_sr_$1s|fish_seen_subcommand_from $1$shared)'? )" \
    "$source/completions/elan-sr.fish"
}

# Whether text $1 has a line that matches $2. (A pipe into grep -q would break off its writer.)
has() { grep -qE -- "$2" <<<"$1"; }

commands=$("$program" --help | awk '/^Commands/ { on = 1; next } /^$/ { on = 0 } on { print $1 }')
[[ -n $commands ]] || complain "expected $program --help to list commands"
zsh=$(<"$source/completions/_elan-sr")
fish=$(<"$source/completions/elan-sr.fish")
first_words=$(offered_by_bash '')

for command in $commands; do
  options=$("$program" "$command" --help | sed -nE 's/^ +(-[^ ]*).*/\1/p' | tr , '\n')
  [[ -n $options ]] || complain "expected elan-sr $command --help to list options"
  page=$(manual "${command^^}")
  has "$page" "^[.]SH ${command^^}$" || complain "docs/elan-sr.1: expected a section ${command^^}"
  has "$first_words" "^$command$" || complain "bash: expected command $command"
  has "$zsh" "^    '$command:" || complain "zsh: expected command $command"
  has "$fish" "-a $command " || complain "fish: expected command $command"

  of_bash=$(offered_by_bash "$command" -)
  of_zsh=$(zsh_options "$command")
  of_fish=$(fish_options "$command")
  for option in $options; do
    has "$page" "(^|[ \"])$option([ \",]|$)" ||
      complain "docs/elan-sr.1: expected $option in section ${command^^}"
    has "$of_bash" "^$option$" || complain "bash: expected $option after $command"
    has "$of_zsh" "[{,)'*]${option}[]},[]" || complain "zsh: expected $option after $command"
    if [[ $option == --* ]]; then
      has "$of_fish" " -l ${option#--}( |$)"
    else
      has "$of_fish" " -s ${option#-}( |$)"
    fi || complain "fish: expected $option after $command"
  done
done

for command in $first_words; do
  [[ $command == help ]] || has "$commands" "^$command$" ||
    complain "bash offers $command, which elan-sr does not have"
done
exit "$status"
