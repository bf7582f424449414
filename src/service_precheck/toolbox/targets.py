"""What the verbs about targets have in common: targets come from where the gate takes them.

The arguments, `--from` and `PRECHECK_TARGETS`, so that the words behind `service-precheck` can be put
behind a verb. The variables of the gate's options are the gate's.
"""

from __future__ import annotations

import sys

from ..cli import OPTIONS, TARGETS_VARIABLE, Command, understand
from ..errors import Mistake, OperatorError
from ..options import FLAG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..options import Option

FROM = next(option for option in OPTIONS if option.name == "from")
MISTAKE = 2


def understood(
    verb: str,
    purpose: str,
    table: tuple[Option, ...],
    arguments: list[str],
    environment: Mapping[str, str],
    *,
    asks: bool = False,
) -> Command | int:
    """What the verb was asked for, or the exit status when there is nothing left to do.

    `purpose` is what its help says; `asks` that it asks the targets, as the gate does. Mistakes are told on standard error, all of them.
    """
    program = f"precheck {verb}"
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text(verb, purpose, table))
        return 0
    targets = {k: v for k, v in environment.items() if k == TARGETS_VARIABLE}
    try:
        command = understand(arguments, targets, table, program, environment if asks else None)
        if command.command:
            right = "service-precheck TARGET... -- COMMAND"
            raise OperatorError((Mistake("--", f"{verb} runs no command; the gate does", right),))
    except OperatorError as error:
        count = len(error.mistakes)
        sys.stderr.write(f"{program}: {count} mistake{'s' * (count > 1)}; nothing was asked\n")
        sys.stderr.writelines(f"  {mistake}\n" for mistake in error.mistakes)
        return MISTAKE
    return command


def help_text(verb: str, purpose: str, table: tuple[Option, ...]) -> str:
    """What `--help` of a verb prints."""
    rows = [
        f"  --{option.name}{'' if option.kind is FLAG else f' {option.kind.shape}'}\n"
        f"          {option.meaning}\n"
        for option in table
    ]
    return (
        f"usage: precheck {verb} [OPTIONS] TARGET...\n\n{purpose}\n\noptions:\n{''.join(rows)}"
        f"  -h, --help\n\nTargets come from --from and ${TARGETS_VARIABLE} too, as for the gate.\n"
    )
