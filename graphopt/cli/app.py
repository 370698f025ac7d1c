"""The command group. A command's module is imported when the command is called, or asked for its own help."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

import click

from graphopt.cli.common import debug_option, print_versions
from graphopt.spec import near

COMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("graphopt.cli.run", "Compile a model: run passes over it, verify each, write the result."),
    "inspect": ("graphopt.cli.inspect", "Show what a model costs, layer by layer."),
    "groups": ("graphopt.cli.groups", "Show which channels depend on each other."),
    "check": ("graphopt.cli.check", "Check models by rules, for continuous integration."),
    "explain": ("graphopt.cli.explain", "Explain a rule, or list them all."),
    "diff": ("graphopt.cli.diff", "Show how two models differ."),
    "prune": ("graphopt.cli.prune", "Fold and prune a model, and write the decision as masks."),
    "sensitivity": ("graphopt.cli.sensitivity", "Show what a pass costs at the output, group by group."),
    "target": ("graphopt.cli.target", "Measure a device, or list those that are known."),
    "passes": ("graphopt.cli.passes", "List the passes with their options."),
}
"""Command: its module, which has a click command named ``command``, and its line in the help."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and one line on each, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        return cast(click.Command, module.command)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"there is no command {args[0]!r}; {near(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=print_versions, help="Print the versions.")
@debug_option
def app() -> None:
    """Compile trained ONNX networks for the device that runs them.

    Training-time structure is folded, channels are pruned, numbers quantized, and every step is held against the model
    that was given.

    \b
    graphopt run model.onnx --passes fold,prune:macs=0.75,quant --data calib.npz -o model.opt.onnx
    """  # noqa: D301 - click wants the backspace itself
