"""Measure our models beside transformers' pipeline, sentence-transformers and SetFit.

    python scripts/benchmark.py            all of it, about ten minutes
    python scripts/benchmark.py --quick    two minutes; ends with "ratio_vs_pipeline: N"
    python scripts/benchmark.py --growth   time and memory by number and length of passages

Everyone labels the same passages on the CPU, each in a process of its own with the same number of
threads. The peers run the bundled encoder in float32. The passages are the test split of
data/articles, or, with --texts and whoever has them, those of data/random_sample.jsonl: ordinary
press, most of it without a topic, which a cascade settles sooner than articles written to be hard.
"""

import argparse
import tempfile
from pathlib import Path

from relclass.benchmark.growth import measure_growth
from relclass.benchmark.measure import Labelled
from relclass.benchmark.suite import (
    Setup,
    describe_machine,
    ratio_vs_pipeline,
    run_suite,
    sample,
    share_of_limit,
    to_markdown,
)
from relclass.config import DataSettings
from relclass.dataset import load_dataset, read_real, to_arrays
from relclass.loading import available_cores
from relclass.models.encoders import find_encoder
from relclass.models.store import shipped_models

ROOT = Path(__file__).parent.parent


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="160 passages, without SetFit")
    parser.add_argument("--growth", action="store_true", help="how cost grows, instead")
    parser.add_argument("--model", action="append", help="ours; default: all that are shipped")
    parser.add_argument("--encoder", default="bundled", help="the peers' checkpoint")
    parser.add_argument("--texts", type=Path, help="of the random sample: label that instead")
    parser.add_argument("--passages", type=int, help="how many to label")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--max-passages", type=int, default=10_000, help="with --growth")
    return parser.parse_args()


def read_passages(texts_path=None):
    settings = DataSettings(
        codebook=ROOT / "data/codebook.yaml",
        authored=(ROOT / "data/articles",),
        splits=ROOT / "data/splits.json",
    )
    dataset = load_dataset(settings)
    train, test = dataset.part("train"), dataset.part("test")
    if texts_path is not None:
        test, _ = read_real(ROOT / "data/random_sample.jsonl", [texts_path], dataset.codebook)
        if not test:
            raise SystemExit(f"{texts_path}: holds no text of data/random_sample.jsonl")
    return [to_columns(passages, dataset.codebook) for passages in (train, test)]


def to_columns(passages, codebook):
    texts, languages, y_true, _ = to_arrays(passages, codebook)
    return Labelled(list(texts), list(languages), y_true.tolist())


def compare(arguments, work_dir):
    train, test = read_passages(arguments.texts)
    n_test = arguments.passages or (160 if arguments.quick else len(test.texts))
    models = tuple(arguments.model or shipped_models())
    setup = Setup(
        train=sample(train, 96 if arguments.quick else len(train.texts)),
        test=sample(test, n_test),
        encoder=find_encoder(arguments.encoder),
        models=models,
        n_threads=arguments.threads,
        work_dir=work_dir,
    )
    print(describe_machine(arguments.threads))
    what = "the random sample" if arguments.texts else "the test split"
    print(f"{len(setup.test.texts)} passages of {what}\n")
    results = run_suite(setup, is_quick=arguments.quick)
    print(to_markdown(results), "\n")
    for result in results[: len(models)]:
        share = share_of_limit(result.name, result, setup)
        if share is not None:
            print(
                f"{result.name}: {share.ops_per_passage / 1e9:.2f} GOP a passage; int8 products "
                f"alone reach {share.limit / 1e9:.0f} GOP/s = {share.passages_per_s:.0f} "
                f"passages/s; it reaches {100 * share.share:.0f} % of that"
            )
    if "fast" in models:
        print(f"\nratio_vs_pipeline of fast: {ratio_vs_pipeline(results, 'fast'):.1f}")
    chosen = "default" if "default" in models else models[0]
    print(f"\nratio_vs_pipeline: {ratio_vs_pipeline(results, chosen):.1f}")


def show_growth(arguments, work_dir):
    _, test = read_passages()
    print(describe_machine(arguments.threads))
    for model in arguments.model or shipped_models():
        print(
            f"\n{model}\n\n| passages | words | s | passages/s | peak, MB |\n|--:|--:|--:|--:|--:|"
        )
        sizes = [n for n in (1_000, 10_000, 100_000, 1_000_000) if n <= arguments.max_passages]
        cases = [(n, 60) for n in sizes]
        cases += [(max(50, 20_000 // n_words), n_words) for n_words in (10, 50, 200, 1000, 2000)]
        for n_passages, n_words in cases:
            row = measure_growth(
                model, test.texts, work_dir, n_passages=n_passages, n_words=n_words
            )
            print(
                f"| {row.n_passages:,} | {row.n_words:,} | {row.seconds:.1f} | "
                f"{row.n_passages / row.seconds:,.0f} | {row.peak_mb:.0f} |"
            )


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as work_dir:
        (show_growth if arguments.growth else compare)(arguments, Path(work_dir))


if __name__ == "__main__":
    main()
