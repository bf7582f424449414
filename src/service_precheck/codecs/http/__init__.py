"""Pages: what a target of HTTP may say, and what an answer means."""
