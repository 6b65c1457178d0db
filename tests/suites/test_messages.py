import pytest

from harness.errors import UserError
from harness.suites.messages import assistant_message
from harness.types import Generation


@pytest.mark.parametrize("bos_tokens", [None, 0, 1, 2])
def test_conversations_that_begin_with_two_bos_tokens_are_refused(bos_tokens: int | None) -> None:
    reply = Generation(
        text="Yes.",
        raw="Yes.",
        finish_reason="stop",
        prompt_tokens=9,
        completion_tokens=2,
        bos_tokens=bos_tokens,
    )
    if bos_tokens == 2:
        with pytest.raises(UserError, match="begins prompts with 2 BOS tokens"):
            assistant_message(reply)
    else:
        assert assistant_message(reply).content == "Yes."
