"""Five questions to the method, each with a notebook in ``notebooks/questions``: experiments, figures, verdicts computed from numbers."""
