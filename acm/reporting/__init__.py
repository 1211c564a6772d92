"""Reporting: from the records of a run to statistics, tables, figures and a report."""
