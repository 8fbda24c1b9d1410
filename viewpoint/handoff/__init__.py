"""What convert_tflite.py hands over to the mobile team: models/handoff/, and the metadata inside the model file."""
