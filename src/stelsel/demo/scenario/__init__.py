"""The story that the small country plays: twelve steps, each with its evidence.

`play.py` runs the steps and says how each went. The other modules hold the steps, by room: what a step claims it
checks from outside, over the same addresses and files that anyone else would use.
"""
