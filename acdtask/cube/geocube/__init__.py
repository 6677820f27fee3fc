"""A cube that lies on a Geocube server: `connect` for people, `acdtask.cube.geocube.cube.GeocubeCube` for jobs."""

from __future__ import annotations

from acdtask.cube.geocube.client import Geocube, connect
from acdtask.cube.geocube.connection import Connection

__all__ = ["Connection", "Geocube", "connect"]
