"""How a run ended, as an event for others."""
