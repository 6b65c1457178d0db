"""Checkpoints that write exactly what they are told: the next token depends on the last one alone."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from tests.engines import tiny

WIDTH = 64


def build_parrot(
    folder: Path, pieces: Sequence[str], *, special: Sequence[str] = (), nan: bool = False
) -> Path:
    """A Qwen3 that answers any rendered question with the pieces, and then its EOS token.

    Attention and feed-forward layers are zero, so that a token's embedding alone decides what comes next.

    Args:
        folder: where it is written.
        pieces: what it says, each a token of its own, so that no piece may come twice.
        special: those of them that are special tokens.
        nan: whether after the last piece the model gives no numbers any more, and never its EOS token.
    """
    return _build(folder, {"": pieces}, special=special, nan=nan)


SWITCHED = """{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if not enable_thinking | default(true) %}<think>

</think>

{% elif reasoning_effort | default('low') == 'high' %}<think>


{% else %}<think>{% endif %}{% endif %}"""
"""A chat template with a switch and an effort, each of which lets prompts end in a token of its own."""

REPLIES = {
    "<think>": ("low", " thought", "</think>", "after a thought"),
    "\n\n\n": ("high", " and", " long", " thought", "</think>", "after a thought"),
    "\n\n": ("at once", "</think>", "after a thought"),
}
"""Last token of a prompt by SWITCHED -> what a model says then; with `build_switched`."""


def build_switched(folder: Path, replies: Mapping[str, Sequence[str]]) -> Path:
    """A Qwen3 with the template SWITCHED, which says what stands behind the last token of its prompt."""
    return _build(folder, replies, chat_template=SWITCHED)


def _build(
    folder: Path,
    replies: Mapping[str, Sequence[str]],
    *,
    special: Sequence[str] = (),
    nan: bool = False,
    chat_template: str = tiny.CHAT_TEMPLATE,
) -> Path:
    """replies: token that one follows -> its pieces; the empty one follows any token that has no other."""
    import torch
    from transformers import AddedToken, Qwen3Config, Qwen3ForCausalLM

    tokenizer = tiny.tokenizer(chat_template)
    texts = dict.fromkeys(text for first, pieces in replies.items() for text in (first, *pieces) if text)
    tokenizer.add_tokens([AddedToken(text, special=text in special, normalized=False) for text in texts])
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    after: dict[int | None, int] = {}
    for first, pieces in replies.items():
        said: list[int] = tokenizer.convert_tokens_to_ids(list(pieces))
        begun = tokenizer.convert_tokens_to_ids(first) if first else None
        end = [] if pieces[-1] in replies else [tokenizer.eos_token_id]
        for token, following in pairwise([begun, *said, *end]):
            assert after.setdefault(token, following) == following, "each piece is followed by one other"
    assert len(after) < WIDTH
    size = (len(tokenizer) + 63) // 64 * 64
    config = Qwen3Config(
        vocab_size=size,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = Qwen3ForCausalLM(config)
    for name, parameter in model.named_parameters():
        parameter.data.fill_(1.0 if name.endswith("norm.weight") else 0.0)
    embedding, head = model.get_input_embeddings().weight.data, model.lm_head.weight.data
    embedding[:, 0] = 1.0  # any token of a prompt that none is said to follow
    head[after.pop(None, tokenizer.eos_token_id), 0] = 5.0
    for number, (token, following) in enumerate(after.items(), 1):
        embedding[token] = 0.0
        embedding[token, number] = 1.0
        head[following, number] = 5.0
    if nan:
        embedding[[*after][-1]] = float("nan")
    model.to(torch.float32).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
