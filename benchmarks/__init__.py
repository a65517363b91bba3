"""Measuring latency: the only clock of this project, its statistics and its reports. Part of mimo."""
