"""Notify a webhook of finished runs."""
