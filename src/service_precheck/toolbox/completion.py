"""`precheck completion bash|zsh`: scripts that complete options, schemes and their options, and verbs.

All words come from the tables that the parser reads; the scripts hold them in one function that both
shells understand. Completing starts no process of ours.
"""

from __future__ import annotations

import sys

from .. import causes, cli, schemes
from ..options import COMMON, FLAG, PATH
from . import check, explain, rbac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..options import Option

GATE, TOOLBOX = "service-precheck", "precheck"
# What a shell completes itself.
FILES = "@files"
HELP = """usage: precheck completion bash|zsh

Prints a script that completes service-precheck and precheck.

  bash: source <(precheck completion bash)       for good, in ~/.bashrc
  zsh:  source <(precheck completion zsh)        for good, in ~/.zshrc, after compinit
"""


def run(arguments: list[str], _environment: Mapping[str, str]) -> int:
    """Print the script for a shell; 2 when it is none of ours."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(HELP)
        return 0
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        sys.stderr.write(f"precheck completion: name one of {', '.join(SCRIPTS)}\n")
        return 2
    sys.stdout.write(script(arguments[0]))
    return 0


def script(shell: str) -> str:
    """The whole script for "bash" or "zsh"."""
    rows = "\n".join(f"        {key}) echo '{' '.join(words)}' ;;" for key, words in _words())
    return SCRIPTS[shell].replace("@TABLE@", f"{TABLE_START}{rows}{TABLE_END}").lstrip()


def _words() -> Iterator[tuple[str, list[str]]]:
    """What there is to choose from, by the key under which the scripts look it up."""
    from . import VERBS

    yield "schemes", [f"{name}://" for name in schemes.names()]
    yield "verbs", list(VERBS)
    yield "causes", list(causes.CAUSES)
    yield "shells", list(SCRIPTS)
    for program, table in (
        (GATE, cli.OPTIONS),
        ("check", check.OPTIONS),
        ("explain", explain.OPTIONS),
        ("rbac", rbac.OPTIONS),
    ):
        version = ["--version"] if program == GATE else []
        yield f"options:{program}", [f"--{option.name}" for option in table] + ["--help", *version]
        yield from _values(f"value:{program}:--", table)
    for name in schemes.names():
        try:
            scheme = schemes.load(name)
        except schemes.Unusable:
            # Naming it as a target tells what is wrong with it.
            continue
        assert scheme is not None
        options = (*scheme.options, *COMMON)
        names = [option.name if option.kind is FLAG else f"{option.name}=" for option in options]
        yield f"target:{name}", names
        yield from _values(f"target:{name}:", options)
        if scheme.form == "path":
            yield f"path:{name}", [FILES]


def _values(prefix: str, table: tuple[Option, ...]) -> Iterator[tuple[str, list[str]]]:
    for option in table:
        if option.kind is PATH:
            yield f"{prefix}{option.name}", [FILES]
        elif option.kind is not FLAG and ("|" in option.kind.shape or option.kind.shape.islower()):
            yield f"{prefix}{option.name}", option.kind.shape.split("|")
        elif option.kind is not FLAG:
            # Nothing to offer, but a value: not the next target.
            yield f"{prefix}{option.name}", []


TABLE_START = """# What there is to choose from; fails where nothing is to be chosen.
_precheck_table() {
    case "$1" in
"""
TABLE_END = """
        *) return 1 ;;
    esac
}"""

BASH = r"""
# Completes service-precheck and precheck in bash. Made by: precheck completion bash

@TABLE@

# Adds what begins with $2 out of the row $1 of the table, with $3 in front.
_precheck_offer() {
    local words IFS=$'\n'
    words=$(_precheck_table "$1") || return
    if [[ $words == @files ]]; then
        COMPREPLY+=($(compgen -P "$3" -f -- "$2"))
    else
        COMPREPLY+=($(compgen -P "$3" -W "${words// /$IFS}" -- "$2"))
    fi
}

_precheck_target() {
    local word=$1 before= front last scheme=dns
    # A member of a group is a target of its own.
    if [[ $word == *"("* ]]; then
        before=${word%"${word##*[(,[:blank:]]}"}
        word=${word##*[(,[:blank:]]}
    fi
    front=${word%%#*}
    if [[ $front == *://* ]]; then
        scheme=${front%%://*}
    elif [[ $front == *:* ]]; then
        scheme=tcp
    fi
    if [[ $word != *"#"* ]]; then
        if [[ $word == *://* ]]; then
            _precheck_offer "path:$scheme" "${word#*://}" "$before$scheme://"
        else
            _precheck_offer schemes "$word" "$before"
        fi
        return
    fi
    last=${word##*#}
    before=$before${word%"$last"}
    if [[ $last == *=* ]]; then
        _precheck_offer "target:$scheme:${last%%=*}" "${last#*=}" "$before${last%%=*}="
    else
        _precheck_offer "target:$scheme" "$last" "$before"
    fi
}

_precheck() {
    local line=${COMP_LINE:0:COMP_POINT} word=$2 program=${1##*/} previous= verb= quote lead i
    COMPREPLY=()
    # Bash splits at : and =, which targets are full of: take the word as it stands on the line.
    word=${line##*[[:blank:]]}
    line=${line%"$word"}
    previous=${line%"${line##*[![:blank:]]}"}
    previous=${previous##*[[:blank:]]}
    quote=${word:0:1}
    [[ $quote == [\'\"] ]] && word=${word:1}
    # In quotes, the word is what stands behind them, blanks included.
    [[ $2 == *[[:blank:]]* ]] && word=${2#[\'\"]}
    if [[ $program == precheck ]]; then
        verb=${line#*[[:blank:]]}
        verb=${verb#"${verb%%[![:blank:]]*}"}
        verb=${verb%%[[:blank:]]*}
        program=$verb
    fi
    if [[ ${COMP_WORDS[0]##*/} == precheck && -z $verb ]]; then
        _precheck_offer verbs "$word"
        return
    fi
    case $program in
        causes) _precheck_offer causes "$word"; return ;;
        completion) _precheck_offer shells "$word"; return ;;
    esac
    if _precheck_table "value:$program:$previous" >/dev/null; then
        _precheck_offer "value:$program:$previous" "$word"
        return
    fi
    if [[ $word == --*=* ]]; then
        _precheck_offer "value:$program:${word%%=*}" "${word#*=}" "${word%%=*}="
    elif [[ $word == -* ]]; then
        _precheck_offer "options:$program" "$word"
    elif _precheck_table "options:$program" >/dev/null; then
        _precheck_target "$word"
        compopt -o nospace 2>/dev/null
    fi
    # What stands before the part that bash is about to replace is left out of each answer.
    lead=$2
    [[ ${lead:0:1} == [\'\"] ]] && lead=${lead:1}
    lead=${word%"$lead"}
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]#"$lead"}
    done
}

complete -F _precheck service-precheck precheck
"""

ZSH = r"""
#compdef service-precheck precheck
# Completes service-precheck and precheck in zsh. Made by: precheck completion zsh

@TABLE@

# Offers the row $1 of the table for what is left of the word; more may follow a target's.
_precheck_offer() {
    local words
    words=$(_precheck_table "$1") || return 1
    if [[ $words == @files ]]; then
        _files
    else
        compadd "${@:2}" -- ${=words}
    fi
}

_precheck_target() {
    local front last scheme=dns
    # A member of a group is a target of its own.
    if [[ $PREFIX == *'('* ]]; then
        compset -P '*[(,[:blank:]]'
    fi
    front=${PREFIX%%'#'*}
    if [[ $front == *://* ]]; then
        scheme=${front%%://*}
    elif [[ $front == *:* ]]; then
        scheme=tcp
    fi
    if [[ $PREFIX != *'#'* ]]; then
        if [[ $PREFIX == *://* ]]; then
            compset -P '*://'
            _precheck_offer "path:$scheme"
        else
            _precheck_offer schemes -Q -S ''
        fi
        return
    fi
    compset -P '*\#'
    last=$PREFIX
    if [[ $last == *=* ]]; then
        compset -p $(( ${#${last%%=*}} + 1 ))
        _precheck_offer "target:$scheme:${last%%=*}" -Q -S ''
    else
        _precheck_offer "target:$scheme" -Q -S ''
    fi
}

_precheck() {
    local program=${words[1]:t} previous=${words[CURRENT-1]}
    if [[ $program == precheck ]]; then
        if (( CURRENT == 2 )); then
            _precheck_offer verbs
            return
        fi
        program=${words[2]}
    fi
    case $program in
        causes) _precheck_offer causes; return ;;
        completion) _precheck_offer shells; return ;;
    esac
    if _precheck_table "value:$program:$previous" >/dev/null; then
        _precheck_offer "value:$program:$previous"
    elif [[ $PREFIX == --*=* ]]; then
        local option=${PREFIX%%=*}
        compset -P '*='
        _precheck_offer "value:$program:$option"
    elif [[ $PREFIX == -* ]]; then
        _precheck_offer "options:$program"
    elif _precheck_table "options:$program" >/dev/null; then
        _precheck_target
    fi
}

compdef _precheck service-precheck precheck
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH}
