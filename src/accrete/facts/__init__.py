"""What is believed, since when. Imports no torch."""
