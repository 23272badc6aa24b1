"""Views against the fold of their events, verification, repair, and retention."""
