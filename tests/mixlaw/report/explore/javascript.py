"""Our scripts in the browser of the tests, each function called by name with JSON."""

import json
from pathlib import Path
from typing import Any

from mixlaw.report.explore.assets import OWN, scripts
from tests.browser import Tab


class Scripts:
    """The functions of the page's scripts, without a page."""

    def __init__(self, tab: Tab, folder: Path) -> None:
        self._tab, self._page = tab, folder / "scripts.html"
        functions = scripts(name for name in OWN if name != "main.js")
        self._page.write_text(f"<!doctype html><script>{functions}</script>", encoding="utf-8")

    def call(self, function: str, *arguments: Any) -> Any:
        """Return the result of a function, or of a text with $0, $1, ... for its arguments; infinities survive."""
        if self._tab.evaluate("document.URL") != self._page.as_uri():
            self._tab.open(self._page.as_uri())
            assert self._tab.console() == []
        body = function if "$0" in function else f"{function}(...arguments)"
        for i in range(len(arguments)):
            body = body.replace(f"${i}", f"arguments[{i}]")
        given = ",".join(json.dumps(value) for value in arguments)
        return self._tab.evaluate(f"(function () {{ return {body} }})({given})")
