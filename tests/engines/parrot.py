"""Checkpoints that write exactly what they are told: the next token depends on the last one alone."""

from collections.abc import Sequence
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
    import torch
    from transformers import AddedToken, Qwen3Config, Qwen3ForCausalLM

    assert len(set(pieces)) == len(pieces) < WIDTH - 1
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([AddedToken(piece, special=piece in special, normalized=False) for piece in pieces])
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
    chain = [*tokenizer.convert_tokens_to_ids(list(pieces)), tokenizer.eos_token_id]
    embedding, head = model.get_input_embeddings().weight.data, model.lm_head.weight.data
    embedding[:, 0] = 1.0  # any token of a prompt is followed by the first piece
    for number, (token, after) in enumerate(pairwise(chain), 1):
        embedding[token] = 0.0
        embedding[token, number] = 1.0
        head[after, number] = 5.0
    head[chain[0], 0] = 5.0
    if nan:
        embedding[chain[-2]] = float("nan")
    model.to(torch.float32).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
