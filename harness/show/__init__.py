"""One attempt as a person reads it: the conversation, what every call changed, and the verdicts."""

from collections.abc import Mapping

from harness.records.directory import RunDirectory


def show(
    directory: RunDirectory,
    pair: str,
    *,
    model: str | None = None,
    attempt: int = 0,
    suites: Mapping[str, str] | None = None,
    form: str = "terminal",
    width: int = 100,
    color: bool = False,
) -> str:
    """One attempt as text.

    Args:
        directory: with records.
        pair: `<suite>/<sample>`.
        model: whose; may be left out where there is but one.
        attempt: which, from 0.
        suites: name -> where it is, of imported suites that AgentDojo does not have.
        form: `terminal` or `html`.
        width: columns of the terminal.
        color: whether it may be sent colours.

    Raises:
        UserError: there is no such attempt.
    """
    from harness.show.html import render_html
    from harness.show.terminal import render_terminal
    from harness.show.view import find, make_view

    view = make_view(*find(directory, pair, model, attempt, suites))
    return render_html(view) if form == "html" else render_terminal(view, width=width, color=color)
