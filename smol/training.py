"""Fine-tunes a model briefly towards one style of answer, by transformers' Trainer.

After an interruption the same call continues the training.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from acm.evaluation.prompts import render
from smol.problems import Row
from smol.source import save

LEARNING_RATE, BATCH, WARMUP = 1e-4, 8, 5
SAVE_EVERY = 10  # training steps between two saves


def documents(rows: list[Row], style: str, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Token ids of prompt and answer. Labels are those of answer and end token alone. The prompt is the benchmarks'
    own."""
    made = []
    for row in rows:
        prompt = tokenizer(render("qwen25-math-cot", row["question"]), add_special_tokens=False)["input_ids"]
        answer = tokenizer(row[style] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
        made.append(
            {
                "input_ids": prompt + answer,
                "attention_mask": [1] * len(prompt + answer),
                "labels": [-100] * len(prompt) + answer,
            }
        )
    return Dataset.from_list(made)


def finetune(source: Path, folder: Path, rows: list[Row], style: str, seed: int = 0) -> pd.DataFrame:
    """Fine-tune ``source`` into ``folder`` (float32) in one pass over ``rows``; returns step and loss (nats a token).

    What is there already is not trained again. bf16 arithmetic, float32 weights; checkpoints every ``SAVE_EVERY``
    steps.
    """
    log = folder / "losses.csv"
    if not log.is_file():
        work = folder.with_name(folder.name + ".training")
        tokenizer = AutoTokenizer.from_pretrained(source)
        arguments = TrainingArguments(
            output_dir=str(work),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="cosine",
            warmup_steps=WARMUP,
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            save_steps=SAVE_EVERY,
            save_total_limit=1,
            logging_steps=1,
            report_to="none",
        )
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        trainer = Trainer(model, arguments, DataCollatorForSeq2Seq(tokenizer), documents(rows, style, tokenizer))
        trainer.train(resume_from_checkpoint=get_last_checkpoint(work) if work.is_dir() else None)
        losses = pd.DataFrame([entry for entry in trainer.state.log_history if "loss" in entry])[["step", "loss"]]
        shutil.rmtree(folder, ignore_errors=True)
        save(model, tokenizer, folder)
        losses.to_csv(log, index=False)
        shutil.rmtree(work)
    return pd.read_csv(log)
