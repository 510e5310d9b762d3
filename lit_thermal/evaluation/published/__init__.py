"""What the five papers printed, as data: one YAML file a paper, and what reads them."""

from lit_thermal.evaluation.published.tables import (
    Number,
    Protocol,
    Row,
    Table,
    tables,
    tables_of_sweep,
)

__all__ = ["Number", "Protocol", "Row", "Table", "tables", "tables_of_sweep"]
