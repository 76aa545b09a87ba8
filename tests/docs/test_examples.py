"""Every example in README, docs, recipes, help and hints fits the program as it is; what is quick and local is run."""

import re
from collections.abc import Callable

import yaml
from typer.testing import Result

from evlgen.recipes.renamed_keys import RENAMED
from tests.cli.conftest import cli  # noqa: F401 - the fixture
from tests.docs.checking import find, is_placeholder, key_problem, of_recipe, options, problem
from tests.docs.collecting import PAGES, RECIPES, ROOT, blocks, commands, sentences, spans

LOCAL = {("recipes", "ls"), ("recipes", "show"), ("recipes", "check"), ("data", "ls"), ("models", "ls")}
"""Commands that need no network, no data and little time."""


def test_every_command_is_parsed_by_the_command_line() -> None:
    found = commands()
    assert len(found) > 60  # the collector sees them
    wrong = [f"{one.where}: {one.text}: {text}" for one in found if (text := problem(one.text, whole=one.whole))]
    assert wrong == []


def test_what_is_local_and_quick_runs(cli: Callable[..., Result]) -> None:  # noqa: F811 - the fixture
    ran = 0
    for text in dict.fromkeys(one.text.partition(" #")[0].strip() for one in commands()):
        words = text.split()[1:]
        if tuple(find(words)[1]) in LOCAL and not any(is_placeholder(word) for word in words):
            result = cli(*words)
            if result.exit_code == 2 and "Missing argument" in result.stderr:
                continue  # stands in a sentence without what it needs
            assert (result.exit_code, result.stderr) == (0, ""), text
            ran += 1
    assert ran >= 4


def test_options_that_pages_name_exist() -> None:
    named = {
        (span.where, option)
        for page in PAGES
        if page.name not in ("CONTRIBUTING.md", "log.md")
        for span in spans(page)
        if not re.match(r"(?:.* )?(?:python|pip|make|git|pytest) ", span.text)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span.text)
    }
    assert sorted(f"{where}: {option}" for where, option in named if option not in options()) == []


def test_commands_in_help_and_hints_exist() -> None:
    """What an error tells to do next can be done: the command is there, and so are the options behind it."""
    wrong = []
    for one in sentences():
        for match in re.finditer(r"\bevlgen ([a-z]+(?: [a-z]+)?)((?: --[a-z-]+)*)", one.text):
            command, path, rest = find(match[1].split())
            if path and hasattr(command, "commands") and rest and f"`evlgen {match[1]}" in one.text:
                wrong.append(f"{one.where}: evlgen {match[1]}")
            own = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"--help"}
            wrong += [f"{one.where}: evlgen {match[1]} {o}" for o in match[2].split() if path and o not in own]
    assert wrong == []


def test_settings_in_pages_help_and_hints_are_keys_of_recipes() -> None:
    """`optimizer.learning_rate=1e-4` is one, `optimizer.lr=1e-4` is not."""
    texts = [*sentences(), *(span for page in PAGES if page.name != "log.md" for span in spans(page))]
    wrong = []
    for one in texts:
        for key in re.findall(r"(?<![\w./{-])[a-z_]+(?:\.[a-z_][a-z_0-9]*)+(?![\w(/*])", one.text):
            is_file = key.endswith((".py", ".json", ".jsonl", ".safetensors", ".md", ".yaml", ".csv", ".txt"))
            renamed = key in RENAMED and one.where.startswith("models/evlgen/recipes/renamed_keys.py")
            if not is_file and not renamed and (text := key_problem(key)):
                wrong.append(f"{one.where}: {text}")
        for setting in re.findall(r"(?:^|\s)([a-z_]+(?:\.[a-z_0-9]+)+=[^\s,;)`]+)", one.text):
            if one.where.startswith("evlgen_cli") and (text := of_recipe("pretrain-opt2.7b", [setting.rstrip(".")])):
                wrong.append(f"{one.where}: {text}")
    assert wrong == []


def test_yaml_in_pages_is_a_part_of_a_recipe() -> None:
    seen = 0
    for page in PAGES:
        for block in blocks(page):
            if not re.match(r"[a-z_]+:(\s|$)", block.text) or "pypi:" in block.text:
                continue
            content = yaml.safe_load(block.text)
            for section, values in content.items():
                assert key_problem(section) == "", block.where
                flat = yaml.safe_dump(values, default_flow_style=True, width=10**6).strip()
                assert of_recipe("pretrain-opt2.7b", [f"{section}={flat}"]) == "", block.where
            seen += 1
    assert seen >= 2


def test_tests_that_pages_name_are_there() -> None:
    named = [
        (page.name, *match)
        for page in PAGES
        for match in re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text(encoding="utf-8"))
    ]
    wrong = [
        one for one in named if not (ROOT / one[1]).is_file() or f"def {one[2]}" not in (ROOT / one[1]).read_text()
    ]
    assert wrong == []


def test_every_recipe_says_how_it_is_run() -> None:
    named = {one.where for one in commands()}
    assert [recipe.name for recipe in RECIPES if f"recipes/{recipe.name}" not in named] == []
