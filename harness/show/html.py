"""An attempt as one self-contained page: no scripts, nothing loaded from elsewhere."""

from pathlib import Path

from harness.hostile import page_template
from harness.show.view import View


def render_html(view: View) -> str:
    """The page. Every text in it is escaped, and stripped of control characters."""
    template = page_template(Path(__file__).with_name("attempt.html.j2"))
    return template.render(view=view).rstrip() + "\n"
