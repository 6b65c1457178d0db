"""Scoring transcripts that exist already, without a model."""
