"""Providers: stateless modules behind one contract. Import the one you use; nothing is imported from here."""
