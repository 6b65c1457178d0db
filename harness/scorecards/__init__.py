"""Records to scorecards of models and origins, as tables, JSON and a page."""
