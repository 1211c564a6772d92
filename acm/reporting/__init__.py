"""Reporting: records → statistics, tables, figures and the report."""
