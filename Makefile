# make test    set up .venv and run the tests
# make demo    draw photos, prepare, train, convert and predict, all inside demo/
# make lint    check the code with ruff

PYTHON ?= python3
PY = .venv/bin/python
# pip's own finished-mark, so that an interrupted install is done again.
INSTALLED = .venv/requirements-installed.txt

.PHONY: install test demo lint

install: $(INSTALLED)

$(INSTALLED): requirements.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --requirement requirements.txt
	cp requirements.txt $@

test: $(INSTALLED)
	$(PY) -m pytest

lint: $(INSTALLED)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

demo: $(INSTALLED)
	rm -rf demo
	$(PY) tools/make_demo_data.py --output demo/photos --images 840
	$(PY) data_preparation.py --data demo/photos --output demo/dataset
	@# From random weights there is enough to learn without the random changes.
	$(PY) train.py --dataset demo/dataset --models demo/models --weights none --image-size 96 \
		--no-augment --batch-size 32 --phase2-epochs 20 --phase2-learning-rate 2e-3
	$(PY) convert_tflite.py --models demo/models --dataset demo/dataset
	$(PY) test_predict.py --model demo/models/model.tflite --images demo/dataset/test.csv --output demo/predictions.csv \
		--contact-sheet demo/predictions.png
	@# Once more, with a page of the labels that the model doubts; and where it looks.
	$(PY) data_preparation.py --data demo/photos --output demo/dataset --models demo/models --review > /dev/null
	$(PY) tools/explain.py demo/dataset/test.csv --models demo/models --output demo/explanations
	@echo
	@echo "Done. Open these:"
	@echo "  demo/photos/                         the annotated photos, three VIA flavours"
	@echo "  demo/dataset/review.html             the labels, the most doubtful first, and the parts behind them"
	@echo "  demo/models/report/index.html        how the model learnt, and how it does on its test split"
	@echo "  demo/explanations/contact_sheet.png  where it looks"
	@echo "  demo/models/handoff/                 what the mobile team gets, with its README.md"
	@echo "  demo/predictions.csv and .png        its prediction for each test photo; the least certain in a picture"
