"""acd: watch areas for abnormal change in radar coherence."""

__version__ = "0.1.0"
