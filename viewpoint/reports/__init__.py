"""Pages and pictures to look at: the label review, the training report, contact sheets."""
