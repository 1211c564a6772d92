"""Questions to the method: experiments with their merges, figures and verdicts. One module for each question."""
