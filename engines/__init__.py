"""Runtimes behind one protocol, building TensorRT engines, and what needs any engine. Part of mimo."""
