"""Commits: `writer` decides what goes together and what an answer means, `session` is the one
connection it writes through."""

from exchange.effects.commits.writer import Commits, CommitsDown, CommitStats

__all__ = ["Commits", "CommitsDown", "CommitStats"]
