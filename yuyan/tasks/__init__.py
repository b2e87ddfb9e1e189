"""What models are used for, one file a task."""
