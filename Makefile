# make test    set up .venv and run the tests
# make stress  run the slow tests that make test leaves out
# make demo    draw photos, prepare, train, convert and predict, all inside demo/
# make install GPU=1    only set up .venv; with the CUDA libraries that TensorFlow needs on a GPU (Linux)
# make lint    check the code with ruff and mypy
# make pictures    take the pictures in docs/ again, from demo/ (after make demo); needs Chromium
#
# For another Python than python3: make test PYTHON=python3.12. It gets an environment of its own,
# .venv-python3.12, so that environments of several versions can exist side by side.

PYTHON ?= python3
VENV = .venv$(addprefix -,$(filter-out python3,$(notdir $(PYTHON))))
PY = $(VENV)/bin/python
# A process a core, up to four because each holds TensorFlow; a file stays in one process and shares its fixtures.
PARALLEL = --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Written only after pip has finished, so that an interrupted installation is repeated.
INSTALLED = $(VENV)/requirements-installed.txt

.PHONY: install test stress demo lint pictures

install: $(INSTALLED)
	$(if $(GPU),$(PY) -m pip install --quiet "$$(sed -n 's/^tensorflow==/tensorflow[and-cuda]==/p' requirements.txt)")

$(INSTALLED): requirements.txt requirements-cluster.txt requirements-dev.txt
	@echo "Installing the requirements into $(VENV): about 3 minutes, 3.7 GB"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --requirement requirements-dev.txt
	cat requirements.txt requirements-cluster.txt requirements-dev.txt > $@

test: $(INSTALLED)
	$(PY) -m pytest $(PARALLEL)

stress: $(INSTALLED)
	$(PY) -m pytest $(PARALLEL) -m stress

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

demo: export VIEWPOINT_SAY_NEXT = no
demo: $(INSTALLED)
	rm -rf demo
	$(PY) tools/make_demo_data.py --output demo/photos --images 840
	$(PY) data_preparation.py --data demo/photos --output demo/dataset
	@# Starting from random weights, a small backbone has enough to learn without augmentation.
	$(PY) train.py --dataset demo/dataset --models demo/models --weights none --backbone MobileNetV3Small \
		--image-size 96 --no-augment --batch-size 32 --phase2-epochs 16 --phase2-learning-rate 2e-3
	$(PY) convert_tflite.py --models demo/models --dataset demo/dataset
	$(PY) test_predict.py --model demo/models/model.tflite --images demo/dataset/test.csv --output demo/predictions.csv \
		--contact-sheet demo/predictions.jpg
	$(PY) tools/make_demo_data.py --output demo/vehicles --walks 3 --seed 13
	$(PY) test_predict.py --model demo/models/model.tflite --images demo/vehicles --output demo/vehicles.csv --per-folder
	@# Prepare once more, now with a review page that knows which labels the trained model doubts.
	$(PY) data_preparation.py --data demo/photos --output demo/dataset --models demo/models --review > /dev/null
	$(PY) tools/explain.py demo/dataset/test.csv --models demo/models --output demo/explanations.html
	@echo
	@echo "Done. Open these:"
	@echo "  demo/photos/                         the annotated photos, in three VIA formats"
	@echo "  demo/dataset/review.html             the labels, the most doubtful first, and the parts behind them"
	@echo "  demo/models/report/index.html        how the training went, and the results on the test split"
	@echo "  demo/explanations.html               which areas of a photo decide its class"
	@echo "  demo/models/handoff/                 what the mobile team gets; start with its README.md"
	@echo "  demo/predictions.csv and .jpg        the prediction for each test photo; the least certain in a picture"
	@echo "  demo/vehicles_per_folder.html        which of three cars are completely photographed, and their best photos"
	@echo
	@echo "Four faults were planted in demo/photos/export VIA 2/. Did you see them?"
	@sed 's/^/  /' demo/photos/planted.txt
	@echo
	@echo "Correct the labels, with every mark saved at once:  $(PY) tools/review.py --dataset demo/dataset"
	@echo "Try the capture guide, which photographs a car:     $(PY) tools/serve_demo.py --models demo/models"

pictures: $(INSTALLED)
	$(PY) tools/take_pictures.py --demo demo --output docs
