"""From a trained model to predictions: models, inputs, outputs, videos, archives."""
