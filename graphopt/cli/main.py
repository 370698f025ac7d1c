"""Running the command line: every way to fail is one message on stderr and one exit code.

    0    done
    1    a verification, check or budget failed; nothing was written
    2    bad input or usage
    3    a bug of graphopt
    130  interrupted (Ctrl-C)

A traceback is printed with ``--debug`` only.

The commands that hand a model to native code (``WATCHED``) run in a child process, see ``graphopt.guard``: should it crash or
hang, the parent says so in the same form. Nothing that native code writes to stderr on its way down is part of that form, so it
goes nowhere, except with ``--debug``.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import click

from graphopt.cli.app import app
from graphopt.cli.common import colour
from graphopt.errors import Diagnostic, GraphoptError
from graphopt.guard.death import MEMORY_HINT, size
from graphopt.guard.doing import watched
from graphopt.guard.garbage import seldom
from graphopt.guard.limits import confined

BUG = 3
WATCHED = frozenset({"run", "inspect", "groups", "check", "diff"})
INTERRUPTED = 130


def supervised(arguments: Sequence[str]) -> int:
    """As ``run``, in a child process where the command needs it and the system can."""
    from graphopt.guard.supervisor import can_supervise, supervise

    debug = "--debug" in arguments
    if not arguments or arguments[0] not in WATCHED or not can_supervise():
        return run(arguments)
    told = supervise()
    if told is None:
        seldom()
        _quieten(debug)
        return run(arguments)
    _replace_signs()
    if isinstance(told, Diagnostic):
        return _fail(told, 2, False)
    if told in (INTERRUPTED, -signal.SIGINT):
        return _interrupted()
    if told >= 0:
        return told
    signal.signal(-told, signal.SIG_DFL)
    os.kill(os.getpid(), -told)
    return INTERRUPTED


def _quieten(debug: bool) -> None:
    """Keep our stderr apart from that of native code, which goes nowhere; with ``--debug`` both are shown, and where a crash
    was.
    """
    if debug:
        import faulthandler

        if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is None where descriptor 2 is closed
            faulthandler.enable()
        return
    with suppress(OSError, AttributeError, ValueError):
        own = os.dup(sys.stderr.fileno())
        sys.stderr = open(own, "w", encoding=sys.stderr.encoding, errors="replace", buffering=1)  # noqa: PTH123, SIM115
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return the exit code."""
    debug = "--debug" in arguments
    _replace_signs()
    try:
        code: object = app.main(args=list(arguments), prog_name="graphopt", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        return _fail(_usage(error), 2, debug)
    except GraphoptError as error:
        return _fail(error.diagnostic, error.exit_code, debug)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`); Python would complain once more when it flushes at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(_system(error), 2, debug)
    except MemoryError:
        return _fail(_no_memory(), 2, debug)
    except Exception as error:  # noqa: BLE001 - whatever is left is a bug of ours
        return _fail(_bug(error), BUG, debug)
    return code if isinstance(code, int) else 0


def _replace_signs() -> None:
    """Let a stream that cannot show a sign show another one, instead of raising, and one that is closed take everything."""
    sys.stdout, sys.stderr = (stream or io.StringIO() for stream in (sys.stdout, sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(diagnostic: Diagnostic, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    head, *rest = str(diagnostic).split("\n")
    mark, colon, message = head.partition(": ")
    click.echo("\n".join([colour(mark, "red") + colon + message, *rest]), err=True)
    return code


def _interrupted() -> int:
    if watched() is None:  # else the parent says so, however the child ended
        click.echo("interrupted; nothing was written", err=True)
    return INTERRUPTED


def _usage(error: click.ClickException) -> Diagnostic:
    """Click's own faults (an unknown option, a missing argument) in our form."""
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "graphopt"
    why = error.format_message().strip().rstrip(".").replace("\n", " ")
    hint = f"`{command} --help` lists the options"
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        why = why.partition(" Did you mean")[0].partition(" (Possible")[0].rstrip(".")
        hint = "did you mean " + " or ".join(f"`{one}`" for one in sorted(error.possibilities)) + "?"
    return Diagnostic("GO920", command, why[:1].lower() + why[1:], hint)


def _no_memory() -> Diagnostic:
    page = watched()
    if confined() and page is not None:
        why = f"it takes more memory than the {size(confined())} it may have"
        return Diagnostic("GO042", page.read().where, why, MEMORY_HINT)
    return Diagnostic("GO990", "", "out of memory", "a smaller --data, or a machine with more")


def _system(error: OSError) -> Diagnostic:
    """A fault of the file system that no room named: no permission, a full disk, a folder where a file should be."""
    where = str(error.filename) if error.filename is not None else ""
    return Diagnostic("GO921", where, (error.strerror or str(error)).lower(), "check the path, its permissions and the disk")


def _bug(error: Exception) -> Diagnostic:
    what = f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]
    hint = (
        "this is a bug of graphopt, not of yours: run it again with --debug and report the traceback, "
        "the command, and the versions that `graphopt --version` prints"
    )
    return Diagnostic("GO999", "graphopt", f"internal error: {what}", hint)
