"""Readers of data sets on disk: one file per folder layout."""
