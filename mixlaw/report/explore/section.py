"""The explorer as the first section of the report, and the scripts of the page."""

from collections.abc import Sequence
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.fileio import strict_json
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.report.explore.assets import packed_bokeh, scripts
from mixlaw.report.explore.charts import Chart, gains_chart
from mixlaw.report.explore.law_json import INPUTS, term_json
from mixlaw.report.explore.payload import Explorer, explorer_of
from mixlaw.report.material import Material
from mixlaw.report.page import Section
from mixlaw.report.templating import render
from mixlaw.tables.units import NATS, together
from mixlaw.text import count_text

MOST_BYTES = 2_900_000  # of a page
TITLE, TITLE_OF_SIZE = "Try a mixture", "Try a size"


def explored(m: Material, parts: Sequence[Section], charts: Sequence[Chart]) -> tuple[Section, Markup]:
    """Return the explorer of a page with these other parts and charts, and the scripts of the page.

    The explorer has as many resamples as the page has room for.
    """
    others = sum(len(part.body) for part in parts) + len(page_scripts(None, charts) or packed_bokeh()[1])
    explorer = explorer_of(m, MOST_BYTES - others)
    if explorer is None:
        return static_section(m.fit), page_scripts(None, charts)
    gains = [gains_chart(explorer)] if explorer.mixes else []
    return explorer_section(explorer, gains), page_scripts(explorer, [*gains, *charts])


def explorer_section(explorer: Explorer, charts: Sequence[Chart]) -> Section:
    """Return the section with sliders, predicted losses, gains and limits."""
    fit, question, names = explorer.fit, explorer.question, list(explorer.mixtures)
    values: dict[str, Any] = {
        "law": fit.name,
        "uses": fit.law.uses,
        "domains": fit.domains if explorer.mixes else [],
        "most": explorer.most if explorer.mixes else 100,
        "phases": list(range(1, len(explorer.until) + 1)),
        "mixtures": ["h*" if name == RECOMMENDED else name for name in names],
        "first": 1 if explorer.recommended and len(names) > 1 else 0,
        "targets": _rows(explorer),
        "interval": fit.interval_name(),
        "benchmarks": list(explorer.benchmarks),
        "limits": explorer.mixes and bool(question.constraints()),
        "pools": _pools(explorer),
        "kept": len(explorer.kept),
        "over": len(explorer.over),
        "count": explorer.count,
        "charts": charts,
    }
    return Section(TITLE if explorer.mixes else TITLE_OF_SIZE, render("explore", **values))


def _rows(explorer: Explorer) -> list[tuple[str, str]]:
    """Return the rows of the table of losses: targets with their units where these differ, and the weighted sum."""
    units = {name: target.unit for name, target in explorer.fit.targets.items()}
    shown = dict.fromkeys(units, "") if together(units.values()) == NATS else units
    asked = [name for name, weight in explorer.question.targets.items() if weight > 0]
    return [*shown.items(), *([("weighted targets", "")] if len(asked) > 1 else [])]


def _pools(explorer: Explorer) -> str:
    """Return the tokens of each domain that a law of repeated tokens counts with."""
    if "available" not in explorer.fit.law.uses:
        return ""
    known = explorer.question.available
    return ", ".join(f"{domain} {count_text(known[domain])}" for domain in explorer.fit.domains)


def static_section(fit: FittedLaw) -> Section:
    """Return the section of a law that browsers cannot evaluate, with the reason."""
    other = sorted(fit.law.uses - INPUTS)
    why = "its formula is Python code"
    if other:
        why = f"it reads {' and '.join(other)}"
    elif term_json(fit.law.term, len(fit.domains)) is not None:
        why = "the tokens of each domain are not known (available_DOMAIN)"
    return Section(TITLE, render("no_explorer", law=fit.name, why=why))


def page_scripts(explorer: Explorer | None, charts: Sequence[Chart]) -> Markup:
    """Return the script elements of a page with these charts; nothing where nothing moves."""
    if explorer is None and not charts:
        return Markup()
    data = {"explorer": explorer and explorer.to_json(), "charts": {chart.name: chart.item for chart in charts}}
    safe = htmlsafe_json_dumps(data, dumps=strict_json)
    version, library = packed_bokeh()
    return render("scripts", data=safe, version=version, library=library, own=scripts())
