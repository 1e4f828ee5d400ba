"""The command line: which commands there are, and how the process ends."""

import logging
import sys
from typing import Annotated

import typer

from rsseg_cli import __version__
from rsseg_cli.commands import adapt, demo, detect_change, evaluate, info, qgis_plugin, segment, vectorize
from rsseg_cli.console import print_any_name, silence_closed_pipe
from rsseg_cli.environment import collect_no_more, collect_seldom, fill_closed_streams
from rsseg_cli.errors import Terminated
from rsseg_cli.memory import is_out_of_memory, out_of_memory
from rsseg_cli.stops import heard, listen, listen_no_more

logger = logging.getLogger(__name__)
app = typer.Typer(
    name="rsseg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Map land cover and find change in imagery nobody has labelled.",
    epilog="Results go to stdout, everything else to stderr. Try it: rsseg demo",
)
for command in (
    adapt.adapt,
    segment.segment,
    detect_change.detect_change,
    vectorize.vectorize,
    evaluate.evaluate,
    info.info,
    demo.demo,
    qgis_plugin.qgis_plugin,
):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"rsseg {__version__}")
        raise typer.Exit()


@app.callback()
def rsseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Map land cover and find change in imagery nobody has labelled."""


def _pass_over(unheard: "sys.UnraisableHookArgs") -> None:
    """What a library could not raise, such as GDAL's words about a damaged file that are no text: an error follows."""
    logger.debug("passed over: %r", unheard.exc_value)


def main() -> None:
    """Exit codes: 0 done, 1 the person can mend it, 2 usage, 130 interrupted, 143 terminated."""
    listen()
    collect_seldom()
    sys.unraisablehook = _pass_over
    fill_closed_streams()
    print_any_name()
    try:
        # rsseg reads patterns itself, also on Windows: one pattern may be one date, or one map.
        with heard():
            app(prog_name="rsseg", windows_expand_args=False)
    except Terminated:  # before the command itself began
        sys.exit(143)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        silence_closed_pipe()
        sys.exit(1)
    except Exception as problem:
        if is_out_of_memory(problem):  # before the command itself began
            short = out_of_memory()
            print(f"error: {short.problem}\nhint: {short.hint}", file=sys.stderr)
            sys.exit(1)
        print("This is a bug in rsseg; the lines below help whoever mends it.", file=sys.stderr)
        raise
    finally:
        listen_no_more()
        collect_no_more()
