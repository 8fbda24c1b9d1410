# Predicts the photos of a mounted folder with the model in models/, without TensorFlow:
#     docker build -t viewpoint .
#     mkdir -p out
#     docker run --rm --user "$(id -u)" -v "$PWD/photos:/photos:ro" -v "$PWD/out:/out" viewpoint
# Options of test_predict.py go to the end, for example --images /photos/list.csv for a CSV.
# The digest is that of Python 3.11.15 on Debian 13 in docker-library/repo-info; renew it for security updates.
FROM python:3.11-slim@sha256:90744cff8f32887f075c47d747a173ff333e9e98801667af93c357fa9f5e28ff
WORKDIR /app
COPY requirements-predict.txt ./
RUN pip install --no-cache-dir --requirement requirements-predict.txt
COPY config.py test_predict.py ./
COPY viewpoint/ viewpoint/
COPY models/model.tflite models/labels.txt models/
# Without --user, not root but somebody who owns nothing, so /out must be writable for everyone.
USER 65534
ENTRYPOINT ["python", "test_predict.py", "--images", "/photos", "--output", "/out/predictions.csv"]
