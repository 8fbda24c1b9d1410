"""What convert_tflite.py puts into models/handoff/ and into the model file for the mobile team."""
