"""Options that were renamed: both names give the same settings, and help shows the new one only."""

import argparse

import pytest

from mixlaw.cli.main import COMMANDS, build_parser
from mixlaw.cli.options import add_renamed

FIT = ["fit", "t.csv"]
COMPARE = ["compare", "t.csv"]
RECOMMEND = ["recommend", "laws.json", "--n-params", "7e9", "--n-tokens", "150e9"]
PLOT = ["plot", "laws.json", "optimum"]
SOLVER = [
    ("--row-weights", "--weights", "error"),
    ("--prior-strength", "--belief", "0"),
    ("--n-starts", "--starts", "4"),
    ("--n-bootstrap", "--bootstrap", "7"),
]
LIMITS = [
    ("--floor", "--min", "code=0.05"),
    ("--cap", "--max", "code=0.5"),
    ("--stay-near", "--prior", "natural"),
    ("--kl-penalty", "--pull", "0.02"),
]
RENAMED = [(command, *names) for command in (FIT, COMPARE) for names in SOLVER]
RENAMED += [(command, *names) for command in (RECOMMEND, PLOT) for names in LIMITS]


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    return build_parser()


def helps(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [commands] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return commands.choices


@pytest.mark.parametrize(("command", "name", "former", "value"), RENAMED)
def test_both_names_of_an_option_give_the_same_settings(parser, command, name, former, value):
    by_name, by_former = (vars(parser.parse_args([*command, option, value])) for option in (name, former))
    assert by_name == by_former
    assert by_name != vars(parser.parse_args(command))


@pytest.mark.parametrize(("command", "name", "former", "value"), RENAMED)
def test_help_shows_the_new_name_only(parser, command, name, former, value):
    words = helps(parser)[command[0]].format_help().replace(",", " ").split()
    assert name in words
    assert former not in words


@pytest.mark.parametrize(
    ("short", "meant"), [("--boot", "n_bootstrap"), ("--start", "n_starts"), ("--bel", "prior_strength")]
)
def test_abbreviations_of_former_names_still_work(parser, short, meant):
    assert getattr(parser.parse_args([*FIT, short, "5"]), meant) == 5


def test_the_option_given_last_counts_under_whichever_name(parser):
    assert parser.parse_args([*FIT, "--n-starts", "4", "--starts", "5"]).n_starts == 5
    assert parser.parse_args([*FIT, "--starts", "5", "--n-starts", "4"]).n_starts == 4


def test_the_former_name_has_the_same_type_and_choices(parser, capsys):
    for option, wrong in (("--weights", "unequal"), ("--belief", "-1"), ("--starts", "x")):
        with pytest.raises(SystemExit):
            parser.parse_args([*FIT, option, wrong])
        assert option in capsys.readouterr().err


def test_a_default_stands_where_neither_name_is_given():
    parser = argparse.ArgumentParser()
    add_renamed(parser, "--new-name", "--old", type=int, default=3)
    assert parser.parse_args([]).new_name == 3
    assert not hasattr(parser.parse_args([]), "old")


def test_the_figure_of_the_gradient_answers_to_its_former_name(parser):
    assert parser.parse_args(["plot", "laws.json", "pull"]).kind == "gradient"
    assert "pull" not in helps(parser)["plot"].format_usage()


def test_every_command_has_its_options_and_an_action(parser):
    assert set(helps(parser)) == set(COMMANDS)
    for name, sub in helps(parser).items():
        assert callable(sub.get_default("run")), name


@pytest.mark.parametrize("text", ["a,b", "0.5,", "0.5,1.5", "0"])
def test_switches_that_are_no_shares_are_refused_with_an_example(
    parser: argparse.ArgumentParser, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert parser.parse_args([*RECOMMEND, "--switch", "0.6,0.85"]).switch == (0.6, 0.85)
    with pytest.raises(SystemExit):
        parser.parse_args([*RECOMMEND, "--switch", text])
    said = "not between 0 and 1" if "5,1.5" in text or text == "0" else "such as 0.6,0.85"
    assert said in capsys.readouterr().err
