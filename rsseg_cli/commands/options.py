"""Options that several commands share, each defined once."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rsseg_cli.console import Console, ProgressStyle
from rsseg_cli.environment import prepare
from rsseg_cli.errors import RssegError, Terminated
from rsseg_cli.memory import is_out_of_memory, out_of_memory
from rsseg_cli.stops import heard

OUTPUT_PANEL = "What you see"
AlphaChoice = Literal["auto", "yes", "no"]

Bands = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Bands to use, by name or number: red,green or red=3,nir=4. Default: all."),
]
Alpha = Annotated[
    AlphaChoice,
    typer.Option(
        help="Is a band tagged alpha a mask? auto: only when it holds nothing but 0 and its maximum.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Names, colours and merging of classes: a .csv, .toml or .qml."),
]
ClassField = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Vector files: the field that holds the class. Default: found by name."),
]
Where = Annotated[
    str | None, typer.Option(metavar="SQL", help='Vector files: take only these features, e.g. "checked = 1".')
]
Background = Annotated[
    bool,
    typer.Option("--background", help="Vector files: what no polygon covers is the class 'background'."),
]
Aoi = Annotated[
    str | None,
    typer.Option(
        "--aoi", metavar="VECTOR[:LAYER]", help="Map only ground inside these polygons, any coordinate system."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]
Device = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where networks run. auto: a GPU when there is one.")
]
CreationOptions = Annotated[
    list[str] | None,
    typer.Option("--co", "--profile", metavar="NAME=VALUE", help="GDAL creation option; may be repeated."),
]

_CONSOLE_OPTIONS: dict[str, tuple[Any, Any]] = {
    "as_json": (
        Annotated[bool, typer.Option("--json", help="Print one JSON object instead.", rich_help_panel=OUTPUT_PANEL)],
        False,
    ),
    "quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.", rich_help_panel=OUTPUT_PANEL)],
        False,
    ),
    "verbose": (
        Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel=OUTPUT_PANEL)],
        False,
    ),
    "progress": (
        Annotated[
            ProgressStyle,
            typer.Option(help="How progress is shown on stderr; json for programs.", rich_help_panel=OUTPUT_PANEL),
        ],
        "auto",
    ),
    "log": (
        Annotated[
            Path | None,
            typer.Option(metavar="FILE", help="Also write all notes, with times, here.", rich_help_panel=OUTPUT_PANEL),
        ],
        None,
    ),
}


def with_console(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the console's options, its console, and rsseg's exit codes."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "console"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in _CONSOLE_OPTIONS.items()
    ]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        console = Console(**{name: values.pop(name) for name in _CONSOLE_OPTIONS})
        try:
            with console.listening():
                _run(command, console, values)
        except RssegError as error:  # the log itself could not be opened
            with Console(as_json=console.as_json).listening():
                console.fail(error)
            raise typer.Exit(1) from error

    parameters = [*own, *shared]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _run(command: Callable[..., None], console: Console, values: dict[str, Any]) -> None:
    prepare()  # before anything imports GDAL
    try:
        with heard():
            command(**values, console=console)
    except RssegError as error:
        console.fail(error)
        raise typer.Exit(1) from error
    except BrokenPipeError:
        raise  # whoever read our output has gone
    except OSError as problem:
        where = f"{problem.filename}: " if problem.filename else ""
        console.fail(
            RssegError(
                f"{where}{problem.strerror or problem}",
                "check that the place exists, has space, and that you may use it",
                file=str(problem.filename) if problem.filename else None,
                kind="environment",
            )
        )
        raise typer.Exit(1) from problem
    except (KeyboardInterrupt, Terminated) as stop:
        word, code = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        console.fail(RssegError(word, "unfinished outputs were removed; run the command again", kind="stopped"))
        raise typer.Exit(code) from stop
    except Exception as problem:
        if not is_out_of_memory(problem):
            raise
        console.fail(out_of_memory())
        raise typer.Exit(1) from problem
