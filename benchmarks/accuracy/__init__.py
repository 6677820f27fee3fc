"""How well methods find simulated events: scenes, methods, measures, and the page docs/accuracy.md."""
