"""Restoration networks, a page each, and the weights that go into them."""
