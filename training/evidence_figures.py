# SPDX-License-Identifier: Apache-2.0
"""Tables and plots of docs/evidence.md from the CSV files of evidence.py.

    python evidence_figures.py ../docs/evidence/runs --out ../docs/evidence [--figure length]

A bar is Wilson's interval over the questions of all seeds, a faint dot is one seed.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from evidence_tables import (
    NAMES,
    TRAINED,
    Answers,
    Count,
    Row,
    is_at,
    own,
    plan_names,
    read,
    recall,
    total,
    wilson,
    write_tables,
)

COLOURS = {
    "dense": "#888888",
    "every": "#1b5e9e",
    "half": "#2a9d5c",
    "quarter": "#e08a1e",
    "eighth": "#c0392b",
}


def with_bars(axes, xs: list, seeds: list[list[Count]], **style) -> None:
    """Shares with intervals; `seeds`: for each x, a count for each seed."""
    sums = [(sum(r for r, _ in counts), sum(n for _, n in counts)) for counts in seeds]
    kept = [(x, s, counts) for x, s, counts in zip(xs, sums, seeds, strict=True) if s[1]]
    if not kept:
        return
    xs, sums, seeds = zip(*kept, strict=True)
    shares = [100 * right / asked for right, asked in sums]
    bounds = [wilson(*count) for count in sums]
    below = [max(0.0, s - 100 * low) for s, (low, _) in zip(shares, bounds, strict=True)]
    above = [max(0.0, 100 * high - s) for s, (_, high) in zip(shares, bounds, strict=True)]
    axes.errorbar(xs, shares, yerr=[below, above], marker="o", capsize=2, markersize=3, **style)
    dots = [(x, 100 * r / n) for x, counts in zip(xs, seeds, strict=True) for r, n in counts if n]
    dot_style = {"color": style["color"], "alpha": 0.5, "linewidths": 0}
    axes.scatter(*zip(*dots, strict=True), s=18, **dot_style)


def moved(xs: list, place: int, of: int, is_log: bool) -> list:
    """The places of the place-th of so many curves: equal shares stand side by side."""
    by = 0.07 * (place - (of - 1) / 2)
    return [x * 2**by if is_log else x + by for x in xs]


def draw_arms(axes, answers: Answers, xs: list, tests: list, is_log: bool = False) -> None:
    """One curve an arm: at each x what its test selects."""
    for place, arm in enumerate(COLOURS):
        seeds = [answers.by_seed(arm, own(arm), test, False) for test in tests]
        at = moved(xs, place, len(COLOURS), is_log)
        with_bars(axes, at, seeds, color=COLOURS[arm], label=NAMES[arm])


def legend_below(figure, axes, room: float = 0.08) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, room, 1, 1))


def figure_length(answers: Answers, folder: Path, plot) -> None:
    """Right answers by length, one panel a task."""
    figure, panels = plot.subplots(2, 4, figsize=(13, 6), sharey=True)
    is_grey = False
    for axes, task in zip(panels.flat, answers.tasks, strict=False):
        draw_arms(axes, answers, answers.lengths, [is_at(task, n) for n in answers.lengths], True)
        for length in answers.lengths:
            if not answers.seeds_that_count(task, length):
                axes.axvspan(length / 1.2, length * 1.2, color="#eeeeee", zorder=0)
                is_grey = True
        axes.set(title=task, xscale="log", xticks=answers.lengths, ylim=(-3, 103))
        axes.set_xticklabels([str(n) for n in answers.lengths])
        axes.minorticks_off()
    for axes in panels.flat[len(answers.tasks) :]:
        axes.axis("off")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    title = "dots: seeds"
    if is_grey:
        title += "\ngrey: does not count (dense below 95 % in every seed)"
    panels.flat[-1].legend(handles, labels, loc="center", frameon=False, title=title)
    for axes in panels[:, 0]:
        axes.set_ylabel("right answers, %")
    for axes in panels[1]:
        axes.set_xlabel("tokens")
    figure.tight_layout()


def figure_hops(answers: Answers, folder: Path, plot) -> None:
    """Chains: right answers by number of hops, at each length."""
    chains = [task for task in answers.tasks if task.startswith("chain")]
    figure, panels = plot.subplots(1, len(answers.lengths), figsize=(13, 3.8), sharey=True)
    panels = [panels] if len(answers.lengths) == 1 else panels
    hops = [int(task.split()[1]) for task in chains]
    for axes, length in zip(panels, answers.lengths, strict=True):
        draw_arms(axes, answers, hops, [is_at(task, length) for task in chains])
        axes.set(title=f"{length} tokens", xticks=hops, xlabel="hops", ylim=(-3, 103))
    panels[0].set_ylabel("right answers, % (dots: seeds)")
    legend_below(figure, panels[0])


def figure_depth(answers: Answers, folder: Path, plot) -> None:
    """Needles by depth: the fifth of the text in which the fact stands."""
    figure, panels = plot.subplots(1, len(answers.lengths), figsize=(13, 3.8), sharey=True)
    panels = [panels] if len(answers.lengths) == 1 else panels

    def is_in(depth: int, length: int):
        return lambda row: is_at("needle", length)(row) and int(row["depth"]) == depth

    for axes, length in zip(panels, answers.lengths, strict=True):
        draw_arms(axes, answers, list(range(5)), [is_in(depth, length) for depth in range(5)])
        axes.set(title=f"{length} tokens", xticks=range(5), xlabel="depth")
        axes.set_xticklabels(["first fifth", "", "", "", "last"])
    low = min(axes.dataLim.y0 for axes in panels)
    panels[0].set_ylim(max(-3, low - 3), 100.5 if low > 50 else 103)
    panels[0].set_ylabel("needles right, % (dots: seeds)")
    legend_below(figure, panels[0])


def figure_plans(answers: Answers, folder: Path, plot) -> None:
    """Trained against training-free plans by number of indexers: lookups, and chains."""
    figure, panels = plot.subplots(1, 3, figsize=(13, 4.2), sharey=True)
    length = 2048 if 2048 in answers.lengths else answers.lengths[0]
    styles = {
        "uniform, trained": ("#1b5e9e", None),
        "uniform": ("#c0392b", "uniform"),
        "searched by text loss": ("#e08a1e", "searched by text loss"),
        "searched by answers": ("#2a9d5c", "searched by answers"),
    }
    kinds = {
        "needle and list": (("needle", "list"), "0"),
        "chain and back, one hop": (("chain", "back"), "1"),
        "chain and back, two hops": (("chain", "back"), "2"),
    }
    for axes, (title, (tasks, hops)) in zip(panels, kinds.items(), strict=True):

        def is_wanted(row: Row, tasks=tasks, hops=hops) -> bool:
            return int(row["length"]) == length and row["task"] in tasks and row["hops"] == hops

        for place, (label, (colour, name)) in enumerate(styles.items()):
            xs, seeds = [16], [answers.by_seed("every", "own", is_wanted)]
            for arm, indexers in TRAINED[1:]:
                plan_of = plan_names(folder)[indexers][name] if name else "own"
                seeds.append(answers.by_seed("every" if name else arm, plan_of, is_wanted))
                xs.append(indexers)
            shown = label if name is None else f"{label}, not trained"
            at = moved(xs, len(styles) - 1 - place, len(styles), True)
            with_bars(axes, at, seeds, color=colour, label=shown)
        axes.set(title=title, xscale="log", xlabel="indexers", ylim=(-3, 103))
        axes.set_xticks([16, 8, 4, 2], ["16", "8", "4", "2"])
        axes.minorticks_off()
        axes.invert_xaxis()
    panels[0].set_ylabel(f"right at {length} tokens, where it counts, % (dots: seeds)")
    legend_below(figure, panels[0])


def figure_recall(answers: Answers, folder: Path, plot) -> None:
    """Right answers against recall@k of the best source: one point an arm, task, length and seed."""
    figure, panels = plot.subplots(1, 2, figsize=(10, 4.4), sharey=True)
    titles = {"needle and list": True, "chain and back": False}
    for axes, (title, are_lookups) in zip(panels, titles.items(), strict=True):
        for arm, _ in TRAINED:
            xs, ys = [], []
            for seed, task, length in sorted(answers.counted):
                test = is_at(task, length)
                rows = [r for r in answers.select(arm, "own", test) if r["seed"] == seed]
                right, asked = total(rows)
                if asked and (task in ("needle", "list")) == are_lookups:
                    xs.append(100 * recall(rows))
                    ys.append(100 * right / asked)
            style = {"facecolors": "none", "edgecolors": COLOURS[arm], "linewidths": 1}
            axes.scatter(xs, ys, s=16, label=NAMES[arm], **style)
        axes.set(title=title, xlim=(-3, 103), ylim=(-3, 103))
        axes.set_xlabel("recall@k of the answering sentence at the best source, %")
    panels[0].set_ylabel("right answers, %")
    panels[0].legend(frameon=False, loc="lower left")
    figure.tight_layout()


def figure_cost(answers: Answers, folder: Path, plot) -> None:
    """Counted work and measured time of the selection, by length and number of indexers."""
    figure, panels = plot.subplots(1, 2, figsize=(10, 3.8))
    groups: dict[tuple, list[Row]] = defaultdict(list)
    for row in read(folder, "cost"):
        groups[int(row["indexers"]), int(row["length"])].append(row)
    for arm, indexers in TRAINED:
        lengths = sorted(n for i, n in groups if i == indexers)
        style = {"color": COLOURS[arm], "label": NAMES[arm], "marker": "o", "markersize": 3}
        flops = [float(groups[indexers, n][0]["index_gflop"]) for n in lengths]
        panels[0].plot(lengths, flops, **style)
        times = [[float(r["selecting_ms"]) for r in groups[indexers, n]] for n in lengths]
        panels[1].plot(lengths, [sum(t) / len(t) for t in times], **style)
    panels[0].set(title="indexers' GFLOP for one prompt", xscale="log", yscale="log")
    panels[1].set(title="selecting, ms (32,768 tokens in all)", xscale="log", ylim=(0, None))
    panels[0].legend(frameon=False, fontsize=7)
    for axes in panels:
        axes.set_xlabel("tokens in a text")
        lengths = sorted({n for _, n in groups})
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.minorticks_off()
    figure.tight_layout()


FIGURES = {
    "length": figure_length,
    "hops": figure_hops,
    "depth": figure_depth,
    "plans": figure_plans,
    "recall": figure_recall,
    "cost": figure_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, help="folder with the CSV files")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figure", choices=[*FIGURES, "tables"], help="only this one")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    answers = Answers(options.runs)
    if options.figure in (None, "tables"):
        write_tables(answers, options.runs, options.out / "tables.md")
    if options.figure == "tables":
        return
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "evidence", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    for name, draw in FIGURES.items():
        if options.figure in (None, name):
            draw(answers, options.runs, pyplot)
            pyplot.savefig(options.out / f"{name}.svg", metadata={"Date": None})
            pyplot.close()


if __name__ == "__main__":
    main()
