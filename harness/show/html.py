"""An attempt as one self-contained page: no scripts, nothing loaded from elsewhere."""

from pathlib import Path
from typing import Any

from harness.hostile import strip_control
from harness.show.view import View


def render_html(view: View) -> str:
    """The page. Every text in it is escaped, and stripped of control characters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_clean,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("attempt.html.j2").render(view=view).rstrip() + "\n"


def _clean(value: Any) -> Any:
    """Strip what the template prints, except markup of its own macros, in which that was done."""
    return strip_control(value) if type(value) is str else value
