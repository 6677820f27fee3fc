"""Judgement of candidates by their own history: footprints, sums, features, model, choice."""
