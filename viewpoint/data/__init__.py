"""From annotated photos to labelled splits: scanning, labels, duplicates, corrections."""
