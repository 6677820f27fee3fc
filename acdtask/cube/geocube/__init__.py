"""A cube on a Geocube server: `connect` for notebooks, `acdtask.cube.geocube.cube.GeocubeCube` for jobs."""

from __future__ import annotations

from acdtask.cube.geocube.client import Geocube, connect
from acdtask.cube.geocube.connection import Connection

__all__ = ["Connection", "Geocube", "connect"]
