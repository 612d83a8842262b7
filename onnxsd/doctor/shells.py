"""Commands as a shell takes them: each argument quoted where that shell would read more into it."""

from __future__ import annotations

import enum
import re
import shlex


class Shell(enum.Enum):
    """The shells whose quoting is known."""

    BASH = "bash"
    POWERSHELL = "powershell"


# PowerShell takes these as they are in an argument; a comma makes a list there, and @ # $ ( { ; & | < > ` are
# its own. A leading hyphen followed by a dot or a colon is split in two.
_PLAIN_IN_POWERSHELL = re.compile(r"[A-Za-z0-9_./\\:=+][A-Za-z0-9_./\\:=+-]*|--?[A-Za-z][A-Za-z0-9-]*")


def line(argv: tuple[str, ...], shell: Shell) -> str:
    """A command as one line of the shell's input."""
    if shell is Shell.BASH:
        return shlex.join(argv)
    words = [quoted(word, shell) for word in argv]
    call = "& " if words[0].startswith("'") else ""  # a quoted word alone is a text, not a command
    return call + " ".join(words)


def quoted(word: str, shell: Shell) -> str:
    """One argument; unchanged where the shell reads it as it stands."""
    if shell is Shell.BASH:
        return shlex.quote(word)
    return word if _PLAIN_IN_POWERSHELL.fullmatch(word) else "'" + word.replace("'", "''") + "'"
