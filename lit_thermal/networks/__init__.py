"""Whole networks that more than one method is built on, in plain torch."""
