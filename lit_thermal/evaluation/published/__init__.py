"""The numbers of the papers' tables, with what is known of how they were measured."""
