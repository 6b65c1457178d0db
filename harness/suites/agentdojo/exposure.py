"""Whether the model was shown the attack.

AgentDojo looks for a canary in the tool results. Here it is the injected text itself, in whatever dress a
tool hands it on (`harness.engines.escapes`), and in the prompt, where that does not show every result whole.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import structs

from harness.engines.escapes import stands_in
from harness.types import Message, Transcript


def is_exposed(injections: Mapping[str, str], messages: Iterable[Message]) -> bool:
    """Whether one of the injected texts stands whole in a tool message.

    Args:
        injections: vector -> text, of the sample.
        messages: as the model was shown them; see `as_shown`.
    """
    results = [message.content for message in messages if message.role == "tool"]
    return any(stands_in(injected, result) for injected in injections.values() for result in results)


def as_shown(transcript: Transcript) -> Iterator[Message]:
    """The conversation, with the prompt in place of a result that does not stand whole in it.

    A result that a defence has withheld is not in the conversation.
    """
    turn = 0
    for message in transcript.messages:
        reading = transcript.generations[turn : turn + 1]
        if message.role == "tool" and reading and reading[0].prompt is not None:
            yield structs.replace(message, content=reading[0].prompt)
        else:
            yield message
        turn += message.role == "assistant"
