"""Time marks: tokens that a checkpoint writes where a time stands; the daemon puts in what the mark points at.

A language model of any size gets clock arithmetic wrong. Instead it is trained to write a mark while attending to the
carriers that show what the time is about, and those know their spans.
"""

from __future__ import annotations

AGO, CLOCK, SPAN = "<|ago|>", "<|clock|>", "<|span|>"  # how long ago it began; at what time; how long it lasted
MARKS = (AGO, CLOCK, SPAN)
