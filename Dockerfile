# Predicts the photos of a mounted folder with the model in models/, without TensorFlow:
#     docker build -t viewpoint .
#     docker run --rm -v "$PWD/photos:/photos:ro" -v "$PWD/out:/out" viewpoint
# Options of test_predict.py go to the end, for example --images /photos/list.csv for a CSV.
FROM python:3.11-slim
WORKDIR /app
COPY requirements-predict.txt ./
RUN pip install --no-cache-dir --requirement requirements-predict.txt
COPY config.py test_predict.py ./
COPY viewpoint/ viewpoint/
COPY models/model.tflite models/labels.txt models/
ENTRYPOINT ["python", "test_predict.py", "--images", "/photos", "--output", "/out/predictions.csv"]
