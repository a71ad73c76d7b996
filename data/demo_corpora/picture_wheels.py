"""The readers of wheels with pictures, and the checks of the settings below `pictures`."""

import re
from collections.abc import Collection, Iterable

from data.config import PackageConfig, SourceConfig
from data.demo_corpora.captions import NAME
from data.demo_corpora.icons import icons
from data.demo_corpora.mnist import mnist
from data.demo_corpora.notebooks import notebooks
from data.demo_corpora.openmoji import LANGUAGES, openmoji
from data.readers.budget import Reader
from data.readers.documents import IMAGE
from mixlaw.errors import ConfigError, unknown_name

PICTURE_WHEEL_READERS: dict[str, Reader] = {
    "openmoji": openmoji,
    "icons": icons,
    "mnist": mnist,
    "notebooks": notebooks,
}
# The settings below `pictures` that each reader uses; `members` and `names` are then required.
USES: dict[str, tuple[str, ...]] = {
    "openmoji": ("names", "languages", "joined", "templates"),
    "icons": ("members", "templates"),
    "mnist": ("templates",),
    "notebooks": (),
}


def check_pictures(source: SourceConfig, where: str) -> None:
    """Check the settings below `pictures` of a source whose reader is in USES.

    Raises
    ------
    ConfigError
        If a setting is missing or not used, a template is wrong, or a language is unknown; names the setting.
    """
    pictures, plain, used = source.pictures, SourceConfig().pictures, USES[source.reader]
    for setting, value in vars(pictures).items():
        if setting not in used and value != getattr(plain, setting):
            uses = ", ".join(used) or "none of them"
            raise ConfigError(
                f"{where}.pictures.{setting}: the reader '{source.reader}' does not use it; it uses {uses}"
            )
    if "members" in used and not pictures.members:
        raise ConfigError(f"{where}.pictures.members: missing; set a pattern of the files to read, as in icons/*.svg")
    if "names" in used:
        _check_names(pictures.names, where)
    _check_templates(pictures.templates, where)
    if not pictures.languages:
        raise ConfigError(f"{where}.pictures.languages: empty; name at least one, as in [en]")
    if "languages" in used:
        check_languages(pictures.languages, LANGUAGES, f"{where}.pictures")


def _check_names(names: PackageConfig, where: str) -> None:
    for setting, value in vars(names).items():
        if not value:
            raise ConfigError(
                f"{where}.pictures.names.{setting}: missing; this package holds the names of the pictures"
            )


def _check_templates(templates: list[str], where: str) -> None:
    if not templates:
        raise ConfigError(f"{where}.pictures.templates: empty; write ['{NAME}'] for captions of the name alone")
    for template in templates:
        if template.count(NAME) != 1 or re.search("[{}]", template.replace(NAME, "")) or IMAGE in template:
            raise ConfigError(
                f"{where}.pictures.templates: '{template}' must contain {NAME} once, and no other braces or image"
            )


def check_languages(languages: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise ConfigError for the first unknown language, with the closest known one."""
    for language in languages:
        if language not in known:
            raise ConfigError(f"{where}.languages: {unknown_name('language', language, known)}")
