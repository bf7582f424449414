"""Redis' protocol and what its nodes tell."""
