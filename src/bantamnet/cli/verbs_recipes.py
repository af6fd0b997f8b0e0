"""`recipes`: list, show and copy what is shipped."""

from pathlib import Path
from typing import Annotated

import typer

from bantamnet.cli import show
from bantamnet.cli.options import Json, Set, Use
from bantamnet.errors import UserError

recipes_app = typer.Typer(help="List, show and copy recipes.", pretty_exceptions_enable=False)


@recipes_app.callback(epilog="Example: bantamnet recipes show quickstart")
def recipes(context: typer.Context, json: Json = False) -> None:
    """List, show and copy recipes."""
    if context.invoked_subcommand is None:
        recipes_list(json)
    elif json:
        raise UserError(f"write --json after the verb: bantamnet recipes {context.invoked_subcommand} --json")


@recipes_app.command("list", epilog="Example: bantamnet recipes list --json")
def recipes_list(json: Json = False) -> None:
    """List the shipped recipes."""
    from bantamnet.runs.describe import list_recipes

    show.either(json, {"recipes": list_recipes()}, show.recipe_list)


@recipes_app.command("show", epilog="Example: bantamnet recipes show resnet-variant --set epochs=20")
def recipes_show(
    name: Annotated[str, typer.Argument(metavar="RECIPE|FILE.yaml")], sets: Set = None, use: Use = None, json: Json = False
) -> None:
    """Print a recipe complete, every key resolved."""
    from bantamnet.configfile import write_yaml
    from bantamnet.runs.lookup import resolve

    show.either(json, resolve(name, sets or [], use or []).dump(), lambda tree: print(write_yaml(tree), end=""))


@recipes_app.command("copy", epilog="Example: bantamnet recipes copy resnet8-tiny mine.yaml")
def recipes_copy(
    name: Annotated[str, typer.Argument(metavar="RECIPE")],
    to: Annotated[Path | None, typer.Argument(metavar="FILE.yaml", help="Default: NAME.yaml here.")] = None,
    json: Json = False,
) -> None:
    """Copy a recipe to a file of your own, to change and train."""
    from bantamnet.runs.lookup import copy_recipe

    path = copy_recipe(name, to or Path(f"{name}.yaml"))
    show.either(json, {"copied": str(path)}, lambda _: print(f"{path} is yours; train it with: bantamnet train {path}"))
