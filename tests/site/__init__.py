"""Tests of harness/site."""
