"""The scripts of the page, for all tests of the explorer."""

import pytest

from tests.browser import Tab
from tests.mixlaw.report.explore.javascript import Scripts


@pytest.fixture(scope="session")
def js(tab: Tab, tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    """Return what calls functions of our scripts."""
    return Scripts(tab, tmp_path_factory.mktemp("scripts"))
