"""How a node is reached: commands run there, files brought and fetched, over ssh, through docker, or right here.

A ``Remote`` is what a node is to everybody else.  What carries its commands is a
``Transport`` (``ssh``, ``docker``, ``local``), each of which imports its library
only once it is used.  Nothing here knows what a cluster is.
"""

from splitvote.harness.control.conversation import Conversation, ConversationEnded
from splitvote.harness.control.remote import (
    CommandFailed,
    ControlError,
    Finished,
    Remote,
    Transport,
    Unreachable,
    on_all,
)

__all__ = [
    "CommandFailed",
    "ControlError",
    "Conversation",
    "ConversationEnded",
    "Finished",
    "Remote",
    "Transport",
    "Unreachable",
    "on_all",
]
