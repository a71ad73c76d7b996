"""What YAML and Hydra's command line misread is refused where text is meant, or becomes that text again."""

from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf._utils import get_yaml_loader

from data.chosen_files import chosen_files
from data.config import SourceConfig
from data.config_folders import CONFIGS, config_folders
from data.misread import check_weight_name
from data.prepare import compose_config as compose_data
from data.prepare import main as prepare_main
from data.yaml_files import check_scalars
from mixlaw.errors import ConfigError
from tests.data.tiny import sentences, write_jsonl
from train.compose import compose_config

LIKE_NUMBERS = st.from_regex(r"-?[0-9_]{1,6}(e-?[0-9]{1,3})?", fullmatch=True)
WORDS = ["null", "true", "false", "nan", "inf", "no", "on", "yes", "off", "y", "n", "e3", "1e", "0x10", "3d-scans", "~"]


@given(st.from_regex(r"[a-z0-9_-]{1,8}", fullmatch=True) | LIKE_NUMBERS | st.sampled_from(WORDS))
def test_a_name_is_allowed_just_where_the_command_line_gives_it_back(name: str) -> None:
    try:
        [parsed] = OverridesParser.create().parse_overrides([f"mixture.weights={{{name}:0.5}}"])
        [key] = parsed.value()
        comes_back = isinstance(key, str | int) and not isinstance(key, bool) and str(key) == name
    except Exception:  # noqa: BLE001 (its grammar raises several kinds)
        comes_back = False
    try:
        check_weight_name(name)
        allowed = True
    except ConfigError:
        allowed = False
    assert allowed == comes_back


@given(st.from_regex(r"[a-z0-9_.:~-]{1,9}", fullmatch=True) | LIKE_NUMBERS | st.sampled_from(WORDS))
def test_names_in_a_file_are_text_or_refused_with_their_line(name: str) -> None:
    text = f"domains:\n  {name}: {{reader: jsonl}}\n"
    try:
        [key] = yaml.load(text, Loader=get_yaml_loader())["domains"]
    except yaml.YAMLError:
        return
    if isinstance(key, str):
        check_scalars(text.encode(), Path("a.yaml"))
    else:
        with pytest.raises(ConfigError, match=r"^a\.yaml, line 2: YAML reads the name .* choose another name$"):
            check_scalars(text.encode(), Path("a.yaml"))


@given(st.integers(1, 99), st.integers(0, 59), st.integers(0, 59))
def test_every_time_of_day_without_quotes_is_refused(hours: int, minutes: int, seconds: int) -> None:
    for text in (f"{hours}:{minutes:02}:{seconds:02}", f"{hours}:{minutes:02}"):
        for line in (f"time: {text}", f"x: [1, {text}]", f"a: {{b: {text}}}"):
            with pytest.raises(ConfigError, match=rf"reads {text} as the number \d+ \(base 60\): put it in quotes"):
                check_scalars(line.encode(), Path("a.yaml"))
        check_scalars(f'time: "{text}"'.encode(), Path("a.yaml"))


@pytest.mark.parametrize("line", ["a: 010", "a: 0x", "a: 00:10:00", "a: 2-00:00:00", "a: 1.30", "a: 1_000", "'no': 1"])
def test_other_scalars_stay_as_they_are(line: str) -> None:
    if line == "a: 010":
        with pytest.raises(ConfigError, match=r"YAML reads 010 as the number 8 \(base 8\)"):
            check_scalars(line.encode(), Path("a.yaml"))
    else:
        check_scalars(line.encode(), Path("a.yaml"))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of one's own configurations."""
    (tmp_path / "own" / "data").mkdir(parents=True)
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path / "own"))
    return tmp_path / "own"


def write_data(own: Path, name: str, domain: str) -> None:
    """Write a configuration of two domains, one of which is called as is said."""
    for word in ("one", "two"):
        write_jsonl(own / f"{word}.jsonl", sentences(word, 120))
    domains = f"  {domain}: {{reader: jsonl, path: {own}/one.jsonl}}\n  en: {{reader: jsonl, path: {own}/two.jsonl}}\n"
    root = f"root: {own}/root\n"
    (own / "data" / f"{name}.yaml").write_text(f"name: {name}\n{root}domains:\n{domains}")


@pytest.mark.parametrize(
    ("domain", "sentence"),
    [
        ("no", "line 4: YAML reads the name no as false, not as text: put it in quotes, 'no':, or choose another name"),
        ("on", "line 4: YAML reads the name on as true"),
        ("2019", "line 4: YAML reads the name 2019 as the number 2019"),
        ("null", "line 4: YAML reads the name null as null, not as text: choose another name"),
        ("~", "line 4: YAML reads the name ~ as null"),
        ("1e3", "line 4: YAML reads the name 1e3 as the number 1000.0, not as text: choose another name"),
        ("'null'", "domain name 'null' cannot be given a weight: .* choose another name, for example 'd-null'"),
        ("'1e3'", "domain name '1e3' cannot be given a weight"),
        ("'true'", "domain name 'true' cannot be given a weight"),
    ],
)
def test_a_misread_name_of_a_domain_is_one_sentence_for_every_command(own: Path, domain: str, sentence: str) -> None:
    write_data(own, "mine", domain)
    for compose in (compose_data, compose_config):
        with pytest.raises(ConfigError, match=sentence) as refused:
            compose(["data=mine"])
        assert "\n" not in str(refused.value)
    write_data(own, "other", "fine")
    assert list(compose_data(["data=other"]).domains) == ["fine", "en"]  # a file that is not used does not matter


@pytest.mark.parametrize("broken", ["targets: a: b: c", "targets: {a: b", "targets:\n\t- a"])
def test_a_file_that_is_not_yaml_is_one_sentence_for_every_command(own: Path, broken: str) -> None:
    (own / "data/mine.yaml").write_text(f"name: mine\n{broken}\n")
    for compose in (compose_data, compose_config):
        with pytest.raises(ConfigError, match=r"mine\.yaml, line [23]: it is not YAML: "):
            compose(["data=mine"])


@pytest.mark.parametrize("domain", ["'no'", "'2019'", "'on'", "3d-scans", "'007'"])
def test_a_name_that_can_be_prepared_can_be_given_a_weight(own: Path, domain: str) -> None:
    write_data(own, "mine", domain)
    name = domain.strip("'")
    assert prepare_main(["data=mine"]) == 0
    config = compose_config(["data=mine", f"mixture.weights={{{name}:0.25,en:0.75}}"])
    assert config.mixture.weights == {name: 0.25, "en": 0.75}
    assert list(config.data.domains) == [name, "en"]


def test_a_weight_of_a_value_is_one_sentence() -> None:
    said = r"^(mixture\.weights: a name is read as|Error merging override)"
    for key in ("true", "1e3", "null"):
        with pytest.raises(ConfigError, match=said) as refused:
            compose_config([f"mixture.weights={{{key}:1}}"])
        assert "\n" not in str(refused.value)


def test_whole_numbers_name_entries_wherever_they_are() -> None:
    data = compose_data(["++data.domains={2019:{reader:jsonl,path:x}}"])
    assert "2019" in data.domains
    assert isinstance(data.domains["2019"], SourceConfig)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("data.domains.code.version=1.10", "data.domains.code.version: .* the number 1.1"),
        ("data.domains.code.hub.subset=true", "data.domains.code.hub.subset: .* true"),
        ("data.name=1e5", "data.name: .* the number 100000.0"),
        ("study_name=1.5", "study_name: .* the number 1.5"),
    ],
)
def test_text_that_became_a_number_is_refused(override: str, read: str) -> None:
    with pytest.raises(ConfigError, match=read):
        compose_config([override])


@pytest.mark.parametrize(
    ("override", "what"),
    [
        (
            "+data.task_groups.mean=[a,b]",
            r"^data\.task_groups\.mean: expected names with values, \{NAME: VALUE, \.\.\.\}$",
        ),
        ("++data.task_groups.mean=null", r"^data\.task_groups\.mean: null is no value of it: give it one, or leave"),
        ("data.image_size=many", r"^data\.image_size: Value 'many' .*Integer"),
        ("data.root=${ROOT}", r"write an environment variable as \$ROOT or \$\{oc\.env:ROOT\}"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_words(override: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        compose_data([override])


def test_text_in_two_pairs_of_quotes_is_that_text() -> None:
    assert compose_config(['data.domains.code.version="1.10"']).data.domains["code"].version == "1.10"


def test_a_setting_that_is_another_one_still_is() -> None:
    names = ["++data.domains={2019:{reader:jsonl,path:x}}", "data.name=mine", "data.root=/r/${data.name}"]
    assert compose_config(names).data.root == "/r/mine"


def test_the_files_of_a_command_are_those_that_are_composed() -> None:
    overrides = ["study=paper_nmm", "hydra/launcher=slurm_4_nodes", "data=dclm,obelics"]
    used = chosen_files(config_folders(), "train", overrides)
    names = {str(path.relative_to(CONFIGS)) for path in used if path.is_relative_to(CONFIGS)}
    launchers = {"hydra/launcher/slurm_4_nodes.yaml", "hydra/launcher/slurm_node.yaml"}
    assert launchers | {"train.yaml", "experiment/paper_nmm/106m.yaml", "data/nmm.yaml", "data/dclm.yaml"} <= names
    assert {path.name for path in used if not path.is_relative_to(CONFIGS)} == {"paper_nmm.yaml"}
    assert "data/lvm.yaml" not in names
