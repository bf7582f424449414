"""What several probes share: protocols to bytes and back, and what targets say of them."""
