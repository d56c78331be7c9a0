# SPDX-License-Identifier: Apache-2.0
"""Answers of one trained arm under plans of one's own, as `indexshare analyze --search` finds them.

    python evidence_plans.py --data DATA --weights OUT/seed5/every.pt --seed 5 --plans PLAN,PLAN

A plan has one letter a layer, see evidence_forward.py. Questions: those of evidence.py and that seed.
"""

import argparse
from pathlib import Path

import torch

from checkpoint import load_weights
from corpus import Corpus
from evidence_forward import Forward
from evidence_measure import EVALUATION_TOKENS, TASKS, answers, make_cases
from evidence_shape import indexers


def check_plan(plan: str, num_layers: int) -> None:
    first_source = plan.lstrip("DR")[:1] in ("", "F")
    if len(plan) != num_layers or not set(plan) <= set("FSRPD") or not first_source:
        raise SystemExit(
            f"--plans: expected {num_layers} letters of F, S, R, P and D, and no S or P before the "
            f"first F, found {plan!r}"
        )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="written by prepare_data.py")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--plans", required=True, help="several with commas between")
    parser.add_argument("--seed", type=int, default=1, help="of the questions")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--tasks", default="needle0,list0,chain1", help="task and hops")
    options = parser.parse_args()
    known = [f"{task}{hops}" for task, hops in TASKS]
    tasks = options.tasks.split(",")
    if not set(tasks) <= set(known):
        raise SystemExit(f"--tasks: expected some of {','.join(known)}, found {options.tasks!r}")
    torch.set_float32_matmul_precision("high")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(options.weights).to(device).eval()
    plans = options.plans.split(",")
    for plan in plans:
        check_plan(plan, model.shape.num_layers)
    corpus = Corpus(options.data, "val")
    cases = make_cases(corpus, options.seed, [options.length], EVALUATION_TOKENS, device)
    forward = Forward(model)
    print("plan,indexers,task,length,right,asked")
    for plan in plans:
        for case in cases:
            task = f"{case.task}{case.hops}"
            if task in tasks:
                rows = answers(forward, plan, case)
                right, asked = (sum(row[name] for row in rows) for name in ("right", "asked"))
                print(plan, indexers(plan), task, case.length, right, asked, sep=",", flush=True)


if __name__ == "__main__":
    main()
