"""An implementation from kickoff to go-live: its plan, forecast and chart, and what is open now.

`scope` is what an operator says, `template` what a team does (data), `plan` the gates that follow
from both, `forecast` when they will be done, `evaluate` where they stand, `chart` the picture.
Nothing here reads a clock, a database or the network.
"""
