"""Nets: the residual network, its named members, what they cost."""
