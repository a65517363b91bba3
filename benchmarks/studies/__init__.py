"""Studies that a person starts by hand; their results stand in ``benchmarks/results``."""
