"""tiny-ko: the embedded demonstration model, and the recipe that made its corpus, tokenizer and weights."""

from pathlib import Path

MODEL_FOLDER = Path(__file__).parent / "model"
CORPUS_FOLDER = Path(__file__).parent / "corpus"
