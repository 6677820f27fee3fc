"""The engine that runs jobs: stages, markers, processes, progress."""
