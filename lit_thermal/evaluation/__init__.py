"""Downstream tasks, published numbers and reports."""
