"""Tests of tidy run on a folder and on S3 where they take `place`."""

from __future__ import annotations

from tests.cube.conftest import place

__all__ = ["place"]
