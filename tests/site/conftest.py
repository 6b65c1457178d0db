"""One site for all tests of it."""

from pathlib import Path

import pytest

from harness.site.build import Built, build_site
from tests.site.roots import PUBLIC, make_root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be written to."""
    return make_root(tmp_path_factory.mktemp("many") / "root")


@pytest.fixture(scope="session")
def site(root: Path) -> tuple[Path, Built]:
    """A site, and what was said of it. Not to be written to."""
    config = root.parent / "site.yaml"
    config.write_text(PUBLIC)
    out = root.parent / "site"
    return out, build_site(root, out, settings=config, store=root.parent / "store")
