"""What work there is: torch modules become symbolic operator graphs. Knows no hardware."""
