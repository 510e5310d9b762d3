"""Published numbers as data: one YAML file per paper, and the functions that read them."""

from lit_thermal.evaluation.published.tables import (
    Number,
    Protocol,
    Row,
    Table,
    method_title,
    tables,
    tables_of_sweep,
)

__all__ = ["Number", "Protocol", "Row", "Table", "method_title", "tables", "tables_of_sweep"]
