"""What client and server share: names, problem types, models, redaction [pure]."""
