"""Other ways to invert an image, each after its own publication, so that all can be compared in one process.

Track A keeps the seed noise alone, and the plain sampler regenerates. Track B keeps more, or brings a sampler
of its own. Written from the formulas of the papers that each module cites; where a paper leaves something
open, `Peer.note` says how it was read.
"""

from invrecon.core.peers.peer import Peer, Stored
from invrecon.core.peers.registry import BY_LEVELS, PEERS, make_peer

__all__ = ["BY_LEVELS", "PEERS", "Peer", "Stored", "make_peer"]
