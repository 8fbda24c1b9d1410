# Predicts a mounted folder with the model of models/, without TensorFlow:
#     docker build -t viewpoint .
#     docker run --rm -v "$PWD/photos:/photos:ro" -v "$PWD/out:/out" viewpoint
FROM python:3.11-slim
WORKDIR /app
COPY requirements-predict.txt .
RUN pip install --no-cache-dir --requirement requirements-predict.txt
COPY test_predict.py config.py common.py images.py ./
COPY reports/__init__.py reports/pictures.py reports/predictions.py reports/
COPY models/model.tflite models/labels.txt models/
ENTRYPOINT ["python", "test_predict.py", "--images", "/photos", "--output", "/out/predictions.csv"]
