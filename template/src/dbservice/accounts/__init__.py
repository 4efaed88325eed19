"""The accounts of a service: what is declared, as SQL, and what a server really holds."""
