"""The command line: `python -m softmoa classify FILE`. Bad input ends with one line and exit 2."""

from __future__ import annotations

import sys

import typer

from softmoa.audio import AudioError
from softmoa.bundle import BundleError
from softmoa.commands import inventory, listening, testing, training
from softmoa.commands.terminal import UserError
from softmoa.hub import HubError
from softmoa.tasks import TaskError
from softmoa.weights import WeightsError

app = typer.Typer(
    help="Audio classification with a Soft Mixture of Adapters.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    listening.classify,
    listening.app,
    inventory.bundles,
    inventory.push,
    inventory.backbones,
    inventory.fetch,
    inventory.methods,
    inventory.tasks,
    training.compare,
    testing.evaluate,
):
    app.command()(command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return the exit code: 0 done, 1 nothing came of it, 2 bad input, 130
    interrupted."""
    try:
        code = app(arguments, prog_name="python -m softmoa", standalone_mode=False)
    except (AudioError, BundleError, HubError, TaskError, UserError, WeightsError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full, a folder that may not be read
        print(f"Error: {error.strerror}: {error.filename or 'the output'}.", file=sys.stderr)
        return 2
    except Exception as error:
        # A usage error of typer, whose class has no public name since typer carries its own click.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        print(f"Error: {format_message()}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
