"""The `nasbench` command. torch is imported only when a command needs it, so that `--help` is instant."""

from __future__ import annotations

import errno
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import typer

from nasbench.cli import (  # noqa: F401  # each of these files registers its commands
    backbones,
    console,
    doctor,
    fingerprints,
    latency,
    library,
    project,
    results,
    searching,
    spaces,
    tabulating,
    winners,
)
from nasbench.cli._app import app
from nasbench.errors import InputError, NasbenchError, UnknownNameError
from nasbench.text import mask_passwords, narrate, number_text

__all__ = ["app", "main"]

_SIGINT = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Returns:
        0: done. 1: done, but some trials or checks failed. 2: interrupted, state saved. 3: internal error. 4: wrong
        input. 5: nothing matched.
    """
    shows = warnings.showwarning
    warnings.showwarning = lambda message, *_, **__: narrate(f"warning: {message}")
    try:
        return _run(arguments)
    finally:
        warnings.showwarning = shows  # a program that calls this function shows its own warnings as before


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = int(app(args=None if arguments is None else list(arguments), standalone_mode=False) or 0)
        if code == _SIGINT:  # typer turns Ctrl-C into its own exit code
            raise KeyboardInterrupt
        return code
    except NasbenchError as error:
        narrate(mask_passwords(f"error: {error}"))  # any argument can be a URL that was typed in the wrong place
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort) as error:
        from nasbench.study.termination import saved_text  # imported here, because most commands are not interrupted

        narrate(saved_text("interrupted", error))
        return 2
    except SystemExit as error:  # the command itself does not raise it
        if isinstance(error.__context__, BrokenPipeError):  # typer does, if the reader of a pipe (`head`) has ended
            return 0
        # Otherwise a module or a plug-in raised it.
        from nasbench.library.faults import fault_place  # imported here, because most commands succeed

        who = fault_place(error) or "code that was loaded"
        narrate(f"error: {who} ends the process with sys.exit({error.code!r}); remove that call")
        return InputError.exit_code
    except OSError as error:
        # An error of writing to a pipe or to an open file has no file name, and a full disk is no fault of nasbench.
        if error.errno == errno.ENOSPC and error.filename is None:
            narrate(f"error: cannot write the output: {error.strerror}")
            return InputError.exit_code
        if error.filename is None:  # the error is not about a file that the user has named
            return _bug()
        narrate(f"error: cannot read or write {error.filename}: {error.strerror}")
        return InputError.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of the option parser
            fault = _argument_meant(error) or _option_meant(error) or _number_meant(error) or error.format_message()
            narrate(mask_passwords(f"error: {fault}") + "\nsee `nasbench --help` or `nasbench COMMAND --help`")
            return InputError.exit_code
        from nasbench.library.faults import fault_place, fault_text  # imported here, because most commands succeed

        if fault_place(error):  # a module of the user's plan
            narrate(mask_passwords(f"error: {fault_text(error)}"))
            return InputError.exit_code
        return _bug()


def _number_meant(error: Any) -> str:
    """Return the message for an option whose value is not an allowed number. For any other error, return ""."""
    cause, param = error.__cause__, getattr(error, "param", None)
    if param is None or not hasattr(cause, "errors"):  # typer checks values with pydantic
        return ""
    fault = cause.errors()[0]
    about = param.get_runtime_param().parameter_info
    if fault["type"].startswith(("int", "float", "greater", "less")):
        kind = float if fault["type"].startswith("float") else int
        name = param.opts[0] if param.param_type_name == "option" else param.name
        return f"{name} {fault['input']}: expected {number_text(kind, least=about.min, most=about.max)}"
    return ""


def _bug() -> int:
    """Show the current exception, and return the exit code of an internal error."""
    narrate(mask_passwords(traceback.format_exc().rstrip()))
    narrate("this is a bug in nasbench, not an error in what you typed; please report it with the lines above")
    return NasbenchError.exit_code


def _option_meant(error: Any) -> str:
    """Return the message for an option that does not exist, with the nearest names. For any other error, return ""."""
    context, name = getattr(error, "ctx", None), getattr(error, "option_name", None)
    if context is None or name is None or not hasattr(error, "possibilities"):
        return ""
    known = [option for param in context.command.get_params(context) for option in param.opts if option[:2] == "--"]
    return str(UnknownNameError("option", name, known, f"{context.command_path} --help lists all"))


def _argument_meant(error: Any) -> str:
    """Return the message for a positional argument that was given as an option. For any other error, return ""."""
    context, name = getattr(error, "ctx", None), getattr(error, "option_name", "").removeprefix("--")
    if context is None:
        return ""
    for param in context.command.get_params(context):
        if param.name == name and param.param_type_name == "argument":
            written = param.metavar or name.upper()
            return f"there is no option --{name}; {written} is an argument: {context.command_path} {written}"
    return ""
