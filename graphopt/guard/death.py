"""How a process died, as a diagnostic."""

from __future__ import annotations

import signal

from graphopt.errors import Diagnostic
from graphopt.guard.doing import Activity

_CRASH = {
    "SIGSEGV": "it reads memory that is not its own",
    "SIGBUS": "it reads memory that is not there",
    "SIGFPE": "it divides an integer by zero",
    "SIGABRT": "a check of its own failed",
    "SIGILL": "it runs into an instruction that this processor does not have",
}
_NAMED = "nothing was written; the model brings it about, the fault is the library's: does it run elsewhere?"
_OURS = "nothing was written; run it again with --debug and report the command and what it prints"
MEMORY_HINT = "`--memory-limit 8GiB` (memory_limit=2**33) allows more, `--memory-limit 0` anything"
TIME_HINT = "`--time-limit SECONDS` (time_limit=) allows more, 0 any time"


def died(number: int, activity: Activity, limit: int = 0) -> Diagnostic:
    """GO040, or GO042 where the signal (or the limit of memory that was set) says that there was not enough memory."""
    name = signal_name(number)
    what = f" while {activity.what}" if activity.what else ""
    if name == "SIGKILL":
        why = f"the process was killed{what}: most likely it took more memory than there is"
        return Diagnostic(
            "GO042", activity.where, why, "nothing was written; a smaller model or --data, or a machine with more memory"
        )
    who = activity.who or "graphopt"
    reason = f"; {_CRASH[name]}" if name in _CRASH else ""
    hint = _NAMED if activity.who else _OURS
    if name == "SIGABRT" and limit:
        hint = f"nothing was written; it may have wanted more memory than the {size(limit)} that it had: {MEMORY_HINT}"
    return Diagnostic("GO040", activity.where, f"{who} crashed ({name}){what}{reason}", hint)


def overdue(seconds: float, activity: Activity) -> Diagnostic:
    """GO041."""
    who = activity.who or "graphopt"
    what = activity.what or "reading the model"
    return Diagnostic("GO041", activity.where, f"{who} was still {what} after {seconds:.0f} s", f"nothing was written; {TIME_HINT}")


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def size(count: int) -> str:
    """Bytes for a person."""
    value, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    unit = units.pop(0)
    while value >= 1024 and units:
        value, unit = value / 1024, units.pop(0)
    return f"{value:.3g} {unit}" if value < 1e6 else f"more than 10^{len(str(count)) - 1} bytes"
