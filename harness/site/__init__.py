"""The leaderboard of a results root: one static site out of many runs."""
