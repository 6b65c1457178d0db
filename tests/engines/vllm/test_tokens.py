import pytest

from harness.engines.vllm.tokens import (
    Encoder,
    appended_tokens,
    empty_context,
    encode_pair,
    fit,
    rolling_windows,
)
from harness.errors import AttemptFailure
from harness.types import FailureKind
from tests.engines import tiny


class Characters:
    """A tokenizer: one token a character, with a BOS token (1) that is written as ^."""

    bos_token_id: int | None = 1
    eos_token_id: int | None = None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = [1 if char == "^" else ord(char) for char in text]
        return [1, *ids] if add_special_tokens else ids

    def decode(self, ids: list[int]) -> str:
        return "".join("^" if i == 1 else chr(i) for i in ids)


def words(text: str) -> list[int]:
    """One token for each word, together with the space in front of it."""
    return [hash(part) for part in text.replace(" ", "\x00 ").split("\x00") if part]


def test_trailing_spaces_go_to_the_continuation() -> None:
    assert encode_pair(words, "the sky is ", "blue") == (words("the sky is"), words(" blue"))
    assert encode_pair(words, "the sky is", " blue") == (words("the sky is"), words(" blue"))


def test_bos_is_never_doubled() -> None:
    encoder = Encoder(Characters())
    assert encoder.encode("ab") == encoder.encode("^ab") == [1, 97, 98]
    assert encoder.pair("^a", "b") == encoder.pair("a", "b") == ([1, 97], [98])
    assert encoder.encode("") == []


def test_bos_tokens_are_counted_as_sent() -> None:
    encoder = Encoder(Characters())
    assert [encoder.leading_bos(encoder.encode(text)) for text in ("ab", "^ab", "^^ab")] == [1, 1, 2]


def test_empty_context_becomes_the_prefix_token() -> None:
    encoder = Encoder(Characters())
    assert encoder.pair("", "b") == ([1], [98])
    assert encoder.pair("  ", "b") == ([1], [32, 32, 98])
    assert empty_context(1, [1, 98]) == ([1], [98])
    assert empty_context(1, []) == ([1], [])


def test_no_prefix_token_is_a_failure_only_where_one_is_needed() -> None:
    class Bare(Characters):
        bos_token_id = None

    encoder = Encoder(Bare())
    assert encoder.pair("a", "b")[1] == [98]
    with pytest.raises(AttemptFailure, match="neither a BOS nor an EOS"):
        encoder.pair("", "b")


@pytest.mark.integration
@pytest.mark.parametrize("length", [0, 1, 6, 7, 8, 14, 20])
def test_rolling_windows_equal_those_of_lm_eval(length: int) -> None:
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    tokens = list(range(100, 100 + length))
    theirs = [make_disjoint_window(w) for w in get_rolling_token_windows(tokens, 0, 7, 1)]
    ours = list(rolling_windows(tokens, 0, 7))
    assert ours == theirs
    assert [token for _, part in ours for token in part] == tokens
    assert all(len(context) + len(part) <= 8 for context, part in ours)


def test_long_contexts_lose_their_beginning() -> None:
    assert fit([1, 2, 3], [4, 5], 4) == [2, 3]
    assert fit([1, 2, 3], [4, 5], 9) == [1, 2, 3]
    with pytest.raises(AttemptFailure) as caught:
        fit([1, 2, 3], [4, 5], 2)
    assert caught.value.kind is FailureKind.CONTEXT_OVERFLOW


@pytest.mark.integration
def test_pairs_equal_those_of_lm_eval() -> None:
    from lm_eval.api.model import TemplateLM

    tokenizer = tiny.tokenizer()
    ours = Encoder(tokenizer)

    class Theirs:
        backend = "causal"
        tok_encode = staticmethod(ours.encode)

    for context in ("Question: 2+2?\nAnswer:", "Question: ", "A\n\n", "x"):
        for continuation in (" four", "four", " a b", "\n"):
            assert ours.pair(context, continuation) == TemplateLM._encode_pair(
                Theirs(), context, continuation
            )


def test_a_continuation_that_fuses_with_its_context_is_encoded_by_itself() -> None:
    class Fusing(Characters):
        """Writes `ab` as one token."""

        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return super().encode(text.replace("ab", "\N{AIRPLANE}"), add_special_tokens)

    encoder = Encoder(Fusing())
    assert encoder.pair("xa", "b") == ([1, ord("x"), ord("a")], [ord("b")])
    assert encoder.pair("xa", "bc") == ([1, ord("x"), ord("a")], [ord("c")])  # as lm-eval cuts it
    assert encoder.pair("xa", "") == ([1, ord("x"), ord("a")], [])


class Ending(Characters):
    """Ends every text with an EOS token, as training leaves some tokenizers."""

    eos_token_id = 2
    all_special_ids = (1, 2)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        ids = super().encode(text, add_special_tokens)
        return [*ids, 2] if add_special_tokens else ids


def test_tokens_that_the_tokenizer_appends_are_taken_off() -> None:
    tokenizer = Ending()
    assert appended_tokens(tokenizer) == 1
    encoder = Encoder(tokenizer, appended=1)
    assert encoder.encode("ab") == [1, 97, 98]
    assert encoder.pair("a", "b") == ([1, 97], [98])
    assert encoder.encode("^a") == [1, 97]
    assert list(encoder.windows("ab", 8)) == [([1], [1, 97, 98])]
    assert appended_tokens(tiny.tokenizer()) == 0


def test_a_rendered_conversation_begins_as_its_template_writes_it() -> None:
    encoder = Encoder(Characters(), head="<|user|>")
    assert encoder.encode("<|user|>a")[0] == ord("<")
    assert encoder.encode("a <|user|>")[0] == 1
