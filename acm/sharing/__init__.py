"""Results that travel: submissions by others, the table that they fill, and deposits of records."""
