"""From records to numbers: estimates of models and origins, comparisons, claims. No text."""
