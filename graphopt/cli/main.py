"""Running the command line: every way to fail is one message on stderr and one exit code.

    0    done
    1    a verification, check or budget failed; nothing was written
    2    bad input or usage
    3    a bug of graphopt
    130  interrupted (Ctrl-C)

A traceback is printed with ``--debug`` only.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

import click

from graphopt.cli.app import app
from graphopt.cli.common import colour
from graphopt.errors import Diagnostic, GraphoptError

BUG = 3
INTERRUPTED = 130


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
        return _fail(Diagnostic("GO990", "", "out of memory", "a smaller --data, or a machine with more"), 2, debug)
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
