"""The `xiaonet` command: its subcommands, `--version`, and how errors are shown."""

import atexit
import gc
import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from xiaonet import __version__, console
from xiaonet.cli.archive import picks
from xiaonet.cli.deploy import export, quantize
from xiaonet.cli.evaluate import evaluate
from xiaonet.cli.events import associate, convert
from xiaonet.cli.info import info
from xiaonet.cli.look import look
from xiaonet.cli.pick import pick
from xiaonet.cli.train import demo, finetune, recipe, train
from xiaonet.errors import XiaoNetError
from xiaonet.extras import EXTRAS, MissingPackageError, install_command

INTERRUPTED = 130  # the shell's exit status for Ctrl-C

atexit.register(gc.freeze)  # so that Python does not search all objects for garbage before it ends, which takes 0.05 s


class _Commands(TyperGroup):
    """Runs a subcommand; shows an expected error as one line and keeps the traceback of an unexpected one."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand that was named on the command line.

        Raises:
            typer.Exit: with status 1 after an error, 130 after Ctrl-C.
        """
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ shows ?
        console.choose_form("text")
        try:
            return super().invoke(ctx)
        except XiaoNetError as error:
            console.fail(type(error).__name__.removesuffix("Error"), "stopped", str(error))
            raise typer.Exit(1) from error
        except MissingPackageError as error:
            console.fail("Install", "stopped", str(error))
            raise typer.Exit(1) from error
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] not in EXTRAS:
                raise
            console.fail("Install", f"{error.name} is missing", install_command(error.name))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            console.warn("Stopped", "by Ctrl-C")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)
for command in (pick, picks, look, associate, convert, info, evaluate, demo, train, finetune, recipe, quantize, export):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False
) -> None:
    """XiaoNet: a compact seismic phase picker, distilled from PhaseNet."""
    if show_version:
        console.say(__version__)
        raise typer.Exit
