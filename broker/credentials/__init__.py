"""What to do next with each credential, and when; who does it; what is known."""
